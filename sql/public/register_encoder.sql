create or replace function pgembed.register_encoder(
  name text,
  fingerprint text,
  dimensions int,
  max_tokens int,
  pooling text,
  source text,
  query_prefix text default '',
  document_prefix text default ''
) returns void
language plpgsql
set search_path from current
as $$
declare
  registered text;
begin
  if register_encoder.dimensions not between 1 and 4000 then
    raise exception using errcode = 'PGE03',
      message = format('encoder %L has %s dimensions; an HNSW index takes at most 4000', register_encoder.name, register_encoder.dimensions);
  end if;
  select e.fingerprint into registered from pgembed.encoder as e where e.name = register_encoder.name;
  if registered <> register_encoder.fingerprint then
    raise exception using errcode = 'PGE04',
      message = format('encoder %L is registered with fingerprint %s, and this model has %s',
        register_encoder.name, left(registered, 12), left(register_encoder.fingerprint, 12)),
      hint = 'Another model makes other vectors: register it under a name of its own.';
  end if;
  insert into pgembed.encoder as e (name, fingerprint, dimensions, max_tokens, pooling, source, query_prefix, document_prefix)
  values (
    register_encoder.name, register_encoder.fingerprint, register_encoder.dimensions, register_encoder.max_tokens,
    register_encoder.pooling, register_encoder.source, register_encoder.query_prefix, register_encoder.document_prefix
  )
  on conflict on constraint encoder_pkey do update set source = excluded.source;
  insert into pgembed.expert (encoder, name, kind, fingerprint)
  values (register_encoder.name, 'base', 'base', register_encoder.fingerprint)
  on conflict do nothing;
end
$$;
comment on function pgembed.register_encoder(text, text, int, int, text, text, text, text) is
  'Makes a base model known, with its identity expert base. Again with the same fingerprint it only moves the source; with another one it raises PGE04.';

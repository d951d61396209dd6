create or replace function pgembed.encoder_named(name text) returns pgembed.encoder
language plpgsql stable parallel safe
set search_path from current
as $$
declare
  found_encoder pgembed.encoder;
  existing text;
begin
  select e.* into found_encoder from pgembed.encoder as e where e.name = encoder_named.name;
  if not found then
    select string_agg(quote_literal(e.name), ', ' order by e.name) into existing from pgembed.encoder as e;
    raise exception using errcode = 'PGE01',
      message = format('there is no encoder %L', encoder_named.name),
      hint = coalesce('Encoders are ' || existing || '.', 'Add one: pgembed encoder add minilm');
  end if;
  return found_encoder;
end
$$;
comment on function pgembed.encoder_named(text) is
  'The encoder of that name; PGE01 lists those that exist.';

create or replace function pgembed.register_expert(
  encoder text,
  name text,
  kind text,
  fingerprint text,
  artifact bytea,
  state text default 'active',
  domain text default null,
  trained_on text default null,
  metrics jsonb default '{}'
) returns void
language plpgsql
set search_path from current
as $$
declare
  expected text := (pgembed.encoder_named(register_expert.encoder)).fingerprint;
begin
  if expected <> register_expert.fingerprint then
    raise exception using errcode = 'PGE04',
      message = format('expert %L was trained for fingerprint %s; encoder %L has %s',
        register_expert.name, left(register_expert.fingerprint, 12), register_expert.encoder, left(expected, 12)),
      hint = 'Train the expert on this encoder.';
  end if;
  if coalesce(register_expert.name, '') = '' then
    raise exception using errcode = 'PGE03', message = 'the name of an expert is empty';
  elsif register_expert.name in ('base', 'soft', 'hard') then
    raise exception using errcode = 'PGE03',
      message = format('%L is the name of a mode; give the expert another name', register_expert.name);
  elsif (register_expert.kind in ('linear', 'lora') and register_expert.state in ('active', 'rejected', 'retired')) is not true then
    raise exception using errcode = 'PGE03',
      message = format('an expert of kind %L and state %L cannot be', register_expert.kind, register_expert.state),
      hint = 'Kinds are linear, lora; states are active, rejected, retired.';
  end if;
  insert into pgembed.expert as e (encoder, name, kind, fingerprint, artifact, state, domain, trained_on, metrics)
  values (
    register_expert.encoder, register_expert.name, register_expert.kind, register_expert.fingerprint,
    register_expert.artifact, register_expert.state, register_expert.domain, register_expert.trained_on, register_expert.metrics
  )
  on conflict on constraint expert_pkey do update
  set kind = excluded.kind, fingerprint = excluded.fingerprint, artifact = excluded.artifact, state = excluded.state,
    domain = excluded.domain, trained_on = excluded.trained_on, metrics = excluded.metrics, created_at = now()
  -- A retraining that was refused does not take the expert that serves out of service.
  where excluded.state <> 'rejected' or e.state <> 'active';
end
$$;
comment on function pgembed.register_expert(text, text, text, text, bytea, text, text, text, jsonb) is
  'Deploys an expert, or replaces the one of that name, in the caller''s transaction. No document is touched.';

create or replace function pgembed.set_router(
  encoder text,
  kind text,
  parameters jsonb,
  metrics jsonb default '{}'
) returns int
language plpgsql
set search_path from current
as $$
declare
  built int;
begin
  perform pgembed.encoder_named(set_router.encoder);
  perform pgembed.check_router(set_router.kind, set_router.parameters);
  insert into pgembed.router as r (encoder, kind, parameters, metrics)
  values (set_router.encoder, set_router.kind, set_router.parameters, set_router.metrics)
  on conflict on constraint router_pkey do update
  set kind = excluded.kind, parameters = excluded.parameters, metrics = excluded.metrics,
    version = r.version + 1, built_at = now()
  returning r.version into built;
  delete from pgembed.pilot as p where p.encoder = set_router.encoder;
  delete from pgembed.utility as u where u.encoder = set_router.encoder;
  delete from pgembed.router_reference as q where q.encoder = set_router.encoder;
  delete from pgembed.router_domain as d where d.encoder = set_router.encoder;
  return built;
end
$$;
comment on function pgembed.set_router(text, text, jsonb, jsonb) is
  'Installs a router and empties what was built for the last one (pilots, domains, utilities, references), for the caller to insert the new rows in the same transaction; returns the version.';

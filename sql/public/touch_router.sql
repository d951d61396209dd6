create or replace function pgembed.touch_router(encoder text) returns int
language plpgsql
set search_path from current
as $$
declare
  built int;
begin
  update pgembed.router as r set version = r.version + 1, built_at = clock_timestamp()
  where r.encoder = touch_router.encoder
  returning r.version into built;
  if built is null then
    perform pgembed.encoder_named(touch_router.encoder);
    raise exception using errcode = 'PGE01', message = format('encoder %L has no router', touch_router.encoder),
      hint = 'Build one: pgembed router build --collection NAME.';
  end if;
  return built;
end
$$;
comment on function pgembed.touch_router(text) is
  'Makes clients notice that rows of a router were added or taken away; returns the new version.';

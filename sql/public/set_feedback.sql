create or replace function pgembed.set_feedback(
  collection text,
  enabled boolean default true,
  half_life interval default '7 days',
  eta float8 default 1
) returns void
language plpgsql
set search_path from current
as $$
begin
  perform pgembed.collection_named(set_feedback.collection);
  if set_feedback.enabled is null then
    raise exception using errcode = 'PGE03', message = 'enabled is null; it is true or false';
  elsif (set_feedback.half_life > interval '0' and isfinite(set_feedback.half_life)) is not true then
    raise exception using errcode = 'PGE03',
      message = format('half_life is %s', coalesce(set_feedback.half_life::text, 'null')),
      hint = 'It is the time after which an old search counts half, as in ''7 days''.';
  elsif (set_feedback.eta between 0 and 10) is not true then
    raise exception using errcode = 'PGE03',
      message = format('eta is %s; it lies between 0 and 10', coalesce(set_feedback.eta::text, 'null')),
      hint = 'A user looks at rank r with probability 1 / r ^ eta.';
  end if;
  insert into pgembed.feedback as f (collection, enabled, half_life, eta)
  values (set_feedback.collection, set_feedback.enabled, set_feedback.half_life, set_feedback.eta)
  on conflict on constraint feedback_pkey do update
  set enabled = excluded.enabled, half_life = excluded.half_life, eta = excluded.eta;
end
$$;
comment on function pgembed.set_feedback(text, boolean, interval, float8) is
  'Lets searches and clicks of a collection be logged, or stops it; it is off until then. Old searches count half after half_life in pgembed.router_statistics; a user looks at rank r with probability 1 / r ^ eta.';

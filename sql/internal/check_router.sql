create or replace function pgembed.check_router(kind text, parameters jsonb) returns void
language plpgsql stable parallel safe
set search_path from current
as $$
declare
  temperature jsonb := coalesce(check_router.parameters -> 'temperature', '0.05');
  standing jsonb := coalesce(check_router.parameters -> 'standing', '{}');
begin
  if check_router.kind is distinct from 'pilot' then
    raise exception using errcode = 'PGE03', message = format('there is no router of kind %L', check_router.kind), hint = 'Kinds are pilot.';
  elsif jsonb_typeof(check_router.parameters) is distinct from 'object' then
    raise exception using errcode = 'PGE03',
      message = format('the parameters of a router are a json object, not %s', coalesce(check_router.parameters::text, 'null')),
      hint = 'For example {"temperature": 0.05, "standing": {"base": 0.2}}.';
  elsif jsonb_typeof(temperature) <> 'number' or temperature <= '0' then
    raise exception using errcode = 'PGE03', message = format('the temperature is a number above 0, not %s', temperature);
  elsif jsonb_typeof(standing) <> 'object' or jsonb_path_exists(standing, '$.* ? (@.type() != "number" || @ < 0)')
    -- A hair above 1 is rounding: .1 + .2 + .7 is not 1 in binary.
    or (select sum(s.value::float8) from jsonb_each(standing) as s) > 1 + 1e-9 then
    raise exception using errcode = 'PGE03',
      message = format('standing weights are numbers from 0 that sum to at most 1, unlike %s', standing);
  end if;
end
$$;
comment on function pgembed.check_router(text, jsonb) is
  'Raises PGE03 for a router that pgembed.route could not follow.';

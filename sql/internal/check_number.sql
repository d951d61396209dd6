create or replace function pgembed.check_number(what text, given jsonb, low numeric, high numeric) returns void
language plpgsql immutable parallel safe
set search_path from current
as $$
begin
  if jsonb_typeof(check_number.given) is distinct from 'number'
    or (check_number.given #>> '{}')::numeric between check_number.low and check_number.high is not true then
    raise exception using errcode = 'PGE03',
      message = format('%s is a number from %s to %s, not %s', check_number.what, check_number.low, check_number.high, coalesce(check_number.given::text, 'null'));
  end if;
end
$$;
comment on function pgembed.check_number(text, jsonb, numeric, numeric) is
  'Raises PGE03 for a setting that is no number, or out of its range.';

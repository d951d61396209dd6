create or replace function pgembed.check_fallback(fallback jsonb) returns void
language plpgsql immutable parallel safe
set search_path from current
as $$
begin
  if jsonb_typeof(check_fallback.fallback) <> 'object' then
    raise exception using errcode = 'PGE03', message = format('a fallback is a json object, not %s', check_fallback.fallback),
      hint = 'For example {"threshold": 0.4, "width": 0.02, "weights": {"base": 1}}.';
  end if;
  perform pgembed.check_number('the threshold of a fallback', check_fallback.fallback -> 'threshold', -1000000, 1000000);
  perform pgembed.check_number('the width of a fallback', check_fallback.fallback -> 'width', 0.000001, 1000000);
  perform pgembed.check_mixture('the weights of a fallback', check_fallback.fallback -> 'weights');
end
$$;
comment on function pgembed.check_fallback(jsonb) is
  'Raises PGE03 for a fallback without threshold, width, and weights of experts.';

create or replace function pgembed.check_router(kind text, parameters jsonb) returns void
language plpgsql stable parallel safe
set search_path from current
as $$
declare
  standing jsonb := coalesce(check_router.parameters -> 'standing', '{}');
  fallback jsonb := check_router.parameters -> 'fallback';
  given jsonb;
  name text;
begin
  if (check_router.kind in ('pilot', 'lda', 'logistic', 'knn', 'utility', 'fixed', 'uniform')) is not true then
    raise exception using errcode = 'PGE03', message = format('there is no router of kind %L', check_router.kind),
      hint = 'Kinds are pilot, lda, logistic, knn, utility, fixed, uniform.';
  elsif jsonb_typeof(check_router.parameters) is distinct from 'object' then
    raise exception using errcode = 'PGE03',
      message = format('the parameters of a router are a json object, not %s', coalesce(check_router.parameters::text, 'null')),
      hint = 'For example {"temperature": 0.05, "standing": {"base": 0.2}}.';
  end if;
  perform pgembed.check_number('the temperature', coalesce(check_router.parameters -> 'temperature', '0.05'), 0.000001, 1000000);
  perform pgembed.check_number('the minimum share', coalesce(check_router.parameters -> 'minimum_share', '0'), 0, 1);
  perform pgembed.check_weights('standing weights', standing);
  -- A hair above 1 is rounding: .1 + .2 + .7 is not 1 in binary.
  if (select sum(s.value::float8) from jsonb_each(standing) as s) > 1 + 1e-9 then
    raise exception using errcode = 'PGE03', message = format('standing weights sum to at most 1, unlike %s', standing);
  end if;
  foreach name in array array['top', 'neighbours'] loop
    given := coalesce(check_router.parameters -> name, '1');
    perform pgembed.check_number(name, given, 1, 1000000);
    if given::text ~ '[^0-9]' then
      raise exception using errcode = 'PGE03', message = format('%s is a whole number, not %s', name, given);
    end if;
  end loop;
  given := coalesce(check_router.parameters -> 'aggregate', '"mean"');
  if given not in ('"mean"', '"max"') then
    raise exception using errcode = 'PGE03', message = format('there is no aggregate %s', given), hint = 'Pilots are aggregated by mean or max.';
  end if;
  given := coalesce(check_router.parameters -> 'posterior', '"lda"');
  if given not in ('"lda"', '"logistic"', '"knn"') then
    raise exception using errcode = 'PGE03', message = format('there is no posterior %s', given),
      hint = 'Domains are told apart by lda, logistic or knn.';
  end if;
  if check_router.kind = 'fixed' then
    perform pgembed.check_mixture('the weights of a fixed router', check_router.parameters -> 'weights');
  end if;
  if fallback is not null then
    perform pgembed.check_fallback(fallback);
  end if;
end
$$;
comment on function pgembed.check_router(text, jsonb) is
  'Raises PGE03 for a router that pgembed.route could not follow.';

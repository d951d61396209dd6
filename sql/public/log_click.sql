create or replace function pgembed.log_click(
  collection text,
  query text,
  key text,
  rank int,
  propensity float8 default null,
  weights jsonb default null,
  domain text default '',
  search bigint default null
) returns void
language plpgsql
set search_path from current
as $$
declare
  eta float8 := pgembed.check_feedback(log_click.collection, log_click.query, log_click.weights);
begin
  if log_click.key is null then
    raise exception using errcode = 'PGE03', message = 'the key of the clicked row is null';
  elsif (log_click.rank >= 1) is not true then
    raise exception using errcode = 'PGE03',
      message = format('rank is %s; the first hit has rank 1', coalesce(log_click.rank::text, 'null'));
  elsif log_click.propensity is not null and not (log_click.propensity > 0 and log_click.propensity <= 1) then
    raise exception using errcode = 'PGE03',
      message = format('propensity is %s', log_click.propensity),
      hint = 'It is the probability that the user looked at this rank: above 0, at most 1. Null takes 1 / rank ^ eta.';
  end if;
  if log_click.search is null then
    insert into pgembed.click (collection, search, query, key, rank, propensity, weights, domain, clicked)
    values (
      log_click.collection, nextval('pgembed.search_number'), log_click.query, log_click.key, log_click.rank,
      coalesce(log_click.propensity, greatest(power(log_click.rank, -eta), 1e-100)),
      log_click.weights, coalesce(log_click.domain, ''), true
    );
    return;
  end if;
  update pgembed.click as c
  set clicked = true, propensity = coalesce(log_click.propensity, c.propensity)
  where c.search = log_click.search and c.key = log_click.key and c.collection = log_click.collection;
  if not found then
    raise exception using errcode = 'PGE03',
      message = format('search %s of collection %L did not show key %L', log_click.search, log_click.collection, left(log_click.key, 100)),
      hint = 'Give the number that pgembed.log_impression returned, or leave it out.';
  end if;
end
$$;
comment on function pgembed.log_click(text, text, text, int, float8, jsonb, text, bigint) is
  'Logs that the hit at a rank was opened. propensity is the probability that the user looked there, by default 1 / rank ^ eta; search is what pgembed.log_impression returned, and then the click marks the hit of that search, with its rank, weights and domain.';

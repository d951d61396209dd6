create or replace function pgembed.log_impression(
  collection text,
  query text,
  keys text[],
  weights jsonb default null,
  domain text default ''
) returns bigint
language plpgsql
set search_path from current
as $$
declare
  eta float8 := pgembed.check_feedback(log_impression.collection, log_impression.query, log_impression.weights);
  search bigint := nextval('pgembed.search_number');
begin
  if coalesce(cardinality(log_impression.keys), 0) = 0 or array_position(log_impression.keys, null) is not null then
    raise exception using errcode = 'PGE03',
      message = format('the keys of a logged search are the hits that were shown, best first, not %s', coalesce(left(log_impression.keys::text, 100), 'null'));
  elsif (select count(distinct k.key) from unnest(log_impression.keys) as k (key)) < cardinality(log_impression.keys) then
    raise exception using errcode = 'PGE03',
      message = format('a key was shown twice: %s', left(log_impression.keys::text, 100)),
      hint = 'A search shows each source row once.';
  end if;
  insert into pgembed.click (collection, search, query, key, rank, propensity, weights, domain, clicked)
  select log_impression.collection, search, log_impression.query, k.key, k.rank, greatest(power(k.rank, -eta), 1e-100),
    log_impression.weights, coalesce(log_impression.domain, ''), false
  from unnest(log_impression.keys) with ordinality as k (key, rank);
  return search;
end
$$;
comment on function pgembed.log_impression(text, text, text[], jsonb, text) is
  'Logs a search and the keys it showed, best first, with the weight of each arm that answered; returns its number, for pgembed.log_click.';

create or replace function pgembed.recall_sample(
  collection text,
  queries int default 100,
  k int default 10,
  filter jsonb default null,
  seed float8 default 0
) returns table (query_no bigint, plan text, matching bigint, wanted int, returned int, recall float8)
language plpgsql
set search_path from current
as $$
begin
  if recall_sample.queries is null or recall_sample.queries < 1 then
    raise exception using errcode = 'PGE03', message = format('queries is %s; it is how many to try, 1 or more', coalesce(recall_sample.queries::text, 'null'));
  end if;
  return query select q.query_no, r.plan, r.matching, r.wanted, r.returned, r.recall
  -- Hashed, so that a seed may be any number and the caller's random() goes on as it was.
  from pgembed.sample_queries(recall_sample.collection, recall_sample.queries, hashtext(coalesce(recall_sample.seed, 0)::text))
    with ordinality as q (query, query_no)
  cross join lateral pgembed.recall_of(recall_sample.collection, q.query, recall_sample.k, recall_sample.filter) as r;
end
$$;
comment on function pgembed.recall_sample(text, int, int, jsonb, float8) is
  'pgembed.recall_of for some queries that were asked, or for chunks where few are cached, the same ones for a seed: for a cron job that watches the recall of a collection.';

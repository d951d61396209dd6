create or replace function pgembed.recall_sample(
  collection text,
  queries int default 100,
  k int default 10,
  filter jsonb default null,
  seed int default 0
) returns table (query_no bigint, plan text, matching bigint, wanted int, returned int, recall float8)
language plpgsql
set search_path from current
as $$
begin
  return query select q.query_no, r.plan, r.matching, r.wanted, r.returned, r.recall
  from pgembed.sample_queries(recall_sample.collection, recall_sample.queries, recall_sample.seed) with ordinality as q (query, query_no)
  cross join lateral pgembed.recall_of(recall_sample.collection, q.query, recall_sample.k, recall_sample.filter) as r;
end
$$;
comment on function pgembed.recall_sample(text, int, int, jsonb, int) is
  'pgembed.recall_of for some queries that were asked, or for chunks where few are cached: for a cron job that watches the recall of a collection.';

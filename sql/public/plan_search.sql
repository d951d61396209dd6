create or replace function pgembed.plan_search(
  collection text,
  k int default 10,
  filter jsonb default null
) returns table (plan text, predicate text, estimated bigint, counted bigint, threshold bigint, why text)
language plpgsql
set search_path from current
as $$
declare
  searched pgembed.collection := pgembed.collection_named(plan_search.collection);
  planned record;
begin
  if plan_search.k is null or plan_search.k < 0 then
    raise exception using errcode = 'PGE03', message = format('k is %s; it is the number of rows to return, 0 or more', coalesce(plan_search.k::text, 'null'));
  end if;
  select p.* into planned from pgembed.plan_rows(searched, plan_search.k, plan_search.filter) as p;
  predicate := planned.predicate;
  estimated := planned.estimated;
  threshold := planned.threshold;
  why := planned.why;
  if not planned.indexed then
    plan := 'exact';
  elsif not planned.few then
    plan := 'hnsw';
  else
    execute format(
      'select count(*) from (select from pgembed_data.%I as d %s limit $1) as few',
      searched.name, pgembed.side_matching(searched, planned.predicate)
    ) into counted using 2 * threshold + 1;
    plan := case when counted <= 2 * threshold then 'exact' else 'hnsw' end;
    why := case when counted <= 2 * threshold
      then format('%s chunks match, near or below the threshold of %s', counted, threshold)
      else format('more than %s chunks match, twice the threshold', 2 * threshold) end;
  end if;
  return next;
end
$$;
comment on function pgembed.plan_search(text, int, jsonb) is
  'How pgembed.search would find the k nearest rows that match a filter: exact, or by the HNSW index; from the planner''s estimate, and a bounded count where that is not far above the threshold.';

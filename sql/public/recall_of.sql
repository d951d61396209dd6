create or replace function pgembed.recall_of(collection text, query vector, k int default 10, filter jsonb default null)
returns table (plan text, matching bigint, wanted int, returned int, recall float8)
language plpgsql
set search_path from current
as $$
#variable_conflict use_column
declare
  searched pgembed.collection := pgembed.collection_named(recall_of.collection);
  planned record;
  run record;
  exact record;
begin
  select r.* into run
  from pgembed.run_search(
    searched.name, recall_of.query, recall_of.k, recall_of.filter, false, null, null, null, null, null, 0, null, null, null, 1) as r;
  select p.* into planned from pgembed.plan_rows(searched, recall_of.k, recall_of.filter) as p;
  select e.* into exact from pgembed.dense_exact(searched, l2_normalize(recall_of.query)::halfvec, recall_of.k, planned.predicate, null) as e;
  plan := run.trace ->> 'plan';
  matching := exact.matched;
  wanted := cardinality(exact.keys);
  returned := cardinality(run.hits);
  -- Of rows at the same distance any is right.
  recall := (select count(*) from unnest(run.hits) as h where h.score >= exact.scores[wanted] - 1e-6)::float8 / nullif(wanted, 0);
  return next;
end
$$;
comment on function pgembed.recall_of(text, vector, int, jsonb) is
  'One search against comparing every chunk that matches: the plan it took, matching chunks, min(k, matching rows), rows returned, and the share of the nearest rows among them (null where nothing matches).';

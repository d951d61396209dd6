create or replace function pgembed.candidates(
  collection text,
  query vector,
  query_text text,
  depth int default 100,
  filter jsonb default null
) returns table (key text, dense_score float8, lexical_score float8, dense_rank bigint, lexical_rank bigint)
language plpgsql
set search_path from current
as $$
declare
  searched pgembed.collection := pgembed.collection_named(candidates.collection);
  direction halfvec := l2_normalize(pgembed.checked_query(searched, candidates.query))::halfvec;
  planned record;
  dense record;
  lexical record;
begin
  if candidates.depth is null or candidates.depth < 1 then
    raise exception using errcode = 'PGE03', message = format('depth is %s; it is the number of rows of each arm, 1 or more', coalesce(candidates.depth::text, 'null'));
  end if;
  select p.* into planned from pgembed.plan_rows(searched, candidates.depth, candidates.filter) as p;
  select a.* into dense from pgembed.dense_arm(searched, direction, candidates.depth, candidates.depth, planned) as a;
  select a.* into lexical from pgembed.lexical_arm(searched, candidates.query_text, candidates.depth, planned.predicate) as a;
  return query execute format(
    'select f.key, f.dense, f.lexical, f.dense_rank, f.lexical_rank from (%s) as f order by f.key',
    pgembed.scored_candidates(searched)
  ) using dense.keys, lexical.keys, direction, pgembed.lexical_vector(searched, candidates.query_text), null::vector[], null::float8;
end
$$;
comment on function pgembed.candidates(text, vector, text, int, jsonb) is
  'What a hybrid search fuses: the first depth rows of each arm, their cosine similarity and BM25 score, and their rank in the arm that found them.';

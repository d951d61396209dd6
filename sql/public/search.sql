create or replace function pgembed.search(
  collection text,
  query vector,
  k int default 10,
  filter jsonb default null,
  hybrid boolean default false,
  query_text text default null,
  lexical_weight float8 default 0.3
) returns table (
  key text,
  rank int,
  score float8,
  chunk_no int,
  content text,
  dense_score float8,
  lexical_score float8
)
-- Stable: every query below sees the rows of one snapshot, so none vanishes between two of them.
language plpgsql stable
set search_path from current
as $$
declare
  searched pgembed.collection := pgembed.collection_named(search.collection);
  dimensions int := (pgembed.encoder_named(searched.encoder)).dimensions;
  -- Of length 1, because half precision takes numbers from 6e-8 to 65504 only.
  direction halfvec := l2_normalize(search.query)::halfvec;
  planned record;
  words tsquery;
  wanted int := search.k;
  keys text[];
  scores float8[];
begin
  if search.query is null then
    raise exception using errcode = 'PGE03', message = 'the query vector is null';
  elsif vector_dims(search.query) <> dimensions then
    raise exception using errcode = 'PGE03',
      message = format('the query vector has %s dimensions; collection %L has %s', vector_dims(search.query), search.collection, dimensions),
      hint = format('Encode the query with encoder %L.', searched.encoder);
  elsif vector_norm(search.query) = 0 then
    raise exception using errcode = 'PGE03', message = 'the query vector is zero: it has no direction to search in';
  elsif (search.lexical_weight between 0 and 1) is not true then
    raise exception using errcode = 'PGE03',
      message = format('lexical_weight is %s; it lies between 0 and 1', coalesce(search.lexical_weight::text, 'null'));
  end if;
  select p.* into planned from pgembed.plan_search(search.collection, search.k, search.filter) as p;
  if search.hybrid then
    if search.query_text is null then
      raise exception using errcode = 'PGE03', message = 'a hybrid search needs query_text, the words of the query';
    end if;
    words := pgembed.lexical_query(searched.language, search.query_text);
    wanted := greatest(search.k, 100);
  end if;
  if planned.plan = 'hnsw' then
    select f.keys, f.scores into keys, scores from pgembed.dense_hnsw(searched, direction, wanted, planned.predicate) as f;
  end if;
  if planned.plan = 'exact' or cardinality(keys) < wanted then
    select f.keys, f.scores into keys, scores from pgembed.dense_exact(searched, direction, wanted, planned.predicate) as f;
  end if;
  if words is null or search.k = 0 then
    return query execute format(
      'select f.key, f.position::int, f.score, best.chunk_no, best.content, f.score, null::float8
       from unnest($1[:$3], $2[:$3]) with ordinality as f (key, score, position)
       cross join lateral (
         select d.chunk_no, d.content from pgembed_data.%I as d where %s order by (d.embedding <=> $4) + 0, d.chunk_no limit 1) as best
       order by f.position',
      searched.name, pgembed.key_match(searched, pgembed.side_key(searched), 'd', 'f.key')
    ) using keys, scores, search.k, direction;
    return;
  end if;
  -- z-scores over the union of both arms' candidates, each scored exactly by both arms.
  return query execute format(
    'with candidate as (select distinct u.key from unnest($1 || $2) as u (key)),
     scored as materialized (
       select c.key, 1 - best.distance as dense, best.lexical, best.chunk_no, best.content
       from candidate as c
       cross join lateral (
         select (d.embedding <=> $3) + 0 as distance, max(ts_rank(d.lexemes, $4)) over () as lexical, d.chunk_no, d.content
         from pgembed_data.%I as d where %s order by distance, d.chunk_no limit 1) as best),
     spread as (
       select avg(dense) as dense_mean, nullif(stddev_pop(dense), 0) as dense_sd,
         avg(lexical) as lexical_mean, nullif(stddev_pop(lexical), 0) as lexical_sd
       from scored),
     fused as (
       select f.*, (1 - $5) * coalesce((f.dense - s.dense_mean) / s.dense_sd, 0)
         + $5 * coalesce((f.lexical - s.lexical_mean) / s.lexical_sd, 0) as score
       from scored as f cross join spread as s)
     select f.key, (row_number() over (order by f.score desc, f.dense desc, f.key))::int, f.score, f.chunk_no, f.content, f.dense, f.lexical::float8
     from fused as f order by f.score desc, f.dense desc, f.key limit $6',
    searched.name, pgembed.key_match(searched, pgembed.side_key(searched), 'd', 'c.key')
  ) using keys, pgembed.lexical_arm(searched, words, wanted, planned.predicate), direction, words, search.lexical_weight, search.k;
end
$$;
comment on function pgembed.search(text, vector, int, jsonb, boolean, text, float8) is
  'The k source rows nearest to a query vector that match the filter and that the caller may see: min(k, matching) rows, always. hybrid fuses the words of query_text in, by z-scores with weight lexical_weight.';

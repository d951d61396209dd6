create or replace function pgembed.dense_hnsw(
  collection pgembed.collection,
  query halfvec,
  k int,
  predicate text,
  ef int,
  given int,
  out keys text[],
  out scores float8[],
  out matched bigint
)
language plpgsql stable
set search_path from current
as $$
declare
  side_key text[] := pgembed.side_key(collection);
  scan text := coalesce(current_setting('hnsw.iterative_scan', true), 'off');
  ef_before text := coalesce(current_setting('hnsw.ef_search', true), '40');
begin
  perform
    set_config('hnsw.iterative_scan', 'relaxed_order', true),
    set_config('hnsw.ef_search', least(greatest(dense_hnsw.ef, dense_hnsw.k), 1000)::text, true);
  -- The inner limit bounds what a scan for rows that are far from the query costs. hnsw.max_scan_tuples would not: beyond it
  -- the scan gives what it has put aside, which are not the nearest.
  execute format(
    'with chunk as materialized (
       select %1$s, d.pgembed_distance
       from (
         select %1$s, d.embedding <=> $1 as pgembed_distance from pgembed_data.%2$I as d order by d.embedding <=> $1 limit $3
       ) as d %3$s
       order by d.pgembed_distance
       limit $2),
     nearest as (
       select %1$s, 1 - min(d.pgembed_distance) as pgembed_score from chunk as d group by %1$s)
     select array_agg(%4$s order by d.pgembed_score desc, %1$s), array_agg(d.pgembed_score order by d.pgembed_score desc, %1$s),
       (select count(*) from chunk)
     from nearest as d',
    (select string_agg(format('d.%I', c.name), ', ' order by c.position) from unnest(side_key) with ordinality as c (name, position)),
    collection.name,
    pgembed.side_matching(collection, predicate),
    pgembed.key_text(side_key, 'd', settled => false)
  ) into keys, scores, matched using query, k, given;
  perform
    set_config('hnsw.iterative_scan', scan, true),
    set_config('hnsw.ef_search', ef_before, true);
  keys := coalesce(keys, '{}');
  scores := coalesce(scores, '{}');
end
$$;
comment on function pgembed.dense_hnsw(pgembed.collection, halfvec, int, text, int, int) is
  'Keys of the rows of about the k nearest matching chunks among the given nearest ones of the HNSW index, scanned iteratively; fewer where the matching ones are further away. The settings it needs are restored.';

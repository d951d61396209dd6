create or replace function pgembed.dense_hnsw(
  collection pgembed.collection,
  query halfvec,
  k int,
  predicate text,
  out keys text[],
  out scores float8[]
)
language plpgsql stable
set search_path from current
as $$
declare
  side_key text[] := pgembed.side_key(collection);
  wanted int := 2 * k;
  seen int;
  scan text := coalesce(current_setting('hnsw.iterative_scan', true), 'off');
  ef text := coalesce(current_setting('hnsw.ef_search', true), '40');
begin
  perform set_config('hnsw.iterative_scan', 'relaxed_order', true);
  loop
    perform set_config('hnsw.ef_search', least(greatest(wanted, 100), 1000)::text, true);
    execute format(
      'with chunk as materialized (
         select %1$s, d.embedding <=> $1 as pgembed_distance
         from pgembed_data.%2$I as d %3$s
         order by d.embedding <=> $1
         limit $3),
       nearest as (
         select %1$s, min(d.pgembed_distance) as pgembed_distance from chunk as d group by %1$s order by pgembed_distance, %1$s limit $2)
       select (select count(*) from chunk),
         array_agg(%4$s order by d.pgembed_distance, %1$s), array_agg(1 - d.pgembed_distance order by d.pgembed_distance, %1$s)
       from nearest as d',
      (select string_agg(format('d.%I', c.name), ', ' order by c.position) from unnest(side_key) with ordinality as c (name, position)),
      collection.name,
      pgembed.side_matching(collection, predicate),
      pgembed.key_text(side_key, 'd', settled => false)
    ) into seen, keys, scores using query, k, wanted;
    -- Long documents fill the list with chunks of few rows: look further while there are more.
    exit when cardinality(keys) >= k or seen < wanted or wanted >= 8000;
    wanted := wanted * 4;
  end loop;
  perform set_config('hnsw.iterative_scan', scan, true), set_config('hnsw.ef_search', ef, true);
  keys := coalesce(keys, '{}');
  scores := coalesce(scores, '{}');
end
$$;
comment on function pgembed.dense_hnsw(pgembed.collection, halfvec, int, text) is
  'Keys of about the k nearest matching rows through the HNSW index, scanned iteratively; fewer than k when the scan gives up. The settings it needs are restored.';

create or replace function pgembed.nearest_chunks(
  collection text,
  query_hashes uuid[],
  k int default 30
) returns table (query_no int, key text, chunk_no int)
language plpgsql
set search_path from current
set datestyle = 'ISO, MDY'
set timezone = 'UTC'
set intervalstyle = 'postgres'
set bytea_output = 'hex'
set extra_float_digits = 1
as $$
declare
  searched pgembed.collection := pgembed.collection_named(nearest_chunks.collection);
  ef text := coalesce(current_setting('hnsw.ef_search', true), '40');
begin
  perform set_config('hnsw.ef_search', least(greatest(nearest_chunks.k, 40), 1000)::text, true);
  return query execute format(
    'select q.position::int, %2$s, d.chunk_no
     from unnest($2) with ordinality as q (query_hash, position)
     join pgembed.query_cache as e on e.encoder = $1 and e.query_hash = q.query_hash
     cross join lateral (
       select n.* from pgembed_data.%1$I as n order by n.embedding <=> e.embedding::halfvec limit $3) as d',
    searched.name, pgembed.key_text(pgembed.side_key(searched), 'd')
  ) using searched.encoder, nearest_chunks.query_hashes, nearest_chunks.k;
  perform set_config('hnsw.ef_search', ef, true);
end
$$;
comment on function pgembed.nearest_chunks(text, uuid[], int) is
  'For each cached query (md5 of its text, counted from 1) the k nearest chunks by the collection''s index: what hard negatives are mined from.';

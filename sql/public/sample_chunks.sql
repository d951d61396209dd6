create or replace function pgembed.sample_chunks(collection text, chunks int default 500, seed int default 0) returns setof vector
language plpgsql stable
set search_path from current
as $$
declare
  sampled pgembed.collection := pgembed.collection_named(sample_chunks.collection);
begin
  return query execute format(
    'select t.embedding::vector from pgembed_data.%I as t order by md5(t.content_hash || int4send($1)), t.chunk_no limit $2', sampled.name)
  using sample_chunks.seed, sample_chunks.chunks;
end
$$;
comment on function pgembed.sample_chunks(text, int, int) is
  'Vectors of so many chunks, chosen by a hash of their text, the same ones for a seed: what pgembed expert recommend compares.';

create or replace function pgembed.sample_queries(collection text, queries int default 100, seed int default 0) returns setof vector
language plpgsql stable
set search_path from current
as $$
declare
  sampled pgembed.collection := pgembed.collection_named(sample_queries.collection);
  cached bigint := (select count(*) from pgembed.query_cache as c where c.encoder = sampled.encoder);
begin
  if cached >= sample_queries.queries then
    return query select c.embedding
    from pgembed.query_cache as c
    where c.encoder = sampled.encoder
    order by md5(c.query_hash::text || sample_queries.seed)
    limit sample_queries.queries;
    return;
  end if;
  return query execute format(
    'select t.embedding::vector from pgembed_data.%I as t order by md5(t.content_hash || int4send($1)), t.chunk_no limit $2', sampled.name)
  using sample_queries.seed, sample_queries.queries;
end
$$;
comment on function pgembed.sample_queries(text, int, int) is
  'Query vectors to test a collection with, the same ones for a seed: queries that were asked, where enough are cached, else chunks, which find themselves.';

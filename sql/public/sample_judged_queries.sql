create or replace function pgembed.sample_judged_queries(collection text, queries int default 500, seed int default 0) returns setof vector
language plpgsql stable
set search_path from current
as $$
declare
  sampled pgembed.collection := pgembed.collection_named(sample_judged_queries.collection);
begin
  return query select c.embedding
  from pgembed.query_cache as c
  where c.encoder = sampled.encoder
    and c.query_hash in (select j.query_hash from pgembed.judgment as j where j.collection = sampled.name)
  order by md5(c.query_hash::text || sample_judged_queries.seed)
  limit sample_judged_queries.queries;
end
$$;
comment on function pgembed.sample_judged_queries(text, int, int) is
  'Cached vectors of so many judged queries of a collection, the same ones for a seed; those of queries that were never encoded are not there.';

create or replace function pgembed.nearest_references(encoder text, query vector, k int)
returns table (domain text, similarity float8)
language sql stable parallel safe
set search_path from current
as $$
  -- Without an index: a few thousand rows are compared in milliseconds. Single precision finds
  -- whoever may be among the k, by a margin above its error, and double precision ranks them.
  with reach as (
    select max(near.distance) + 1e-4 as distance
    from (
      select r.embedding <=> nearest_references.query as distance
      from pgembed.router_reference as r
      where r.encoder = nearest_references.encoder
      order by distance
      limit nearest_references.k
    ) as near
  ),
  candidate as (
    select r.domain, r.number, pgembed.cosine(r.embedding, nearest_references.query) as similarity
    from pgembed.router_reference as r
    where r.encoder = nearest_references.encoder
      and r.embedding <=> nearest_references.query <= (select reach.distance from reach)
  )
  select c.domain, c.similarity
  from candidate as c
  -- What differs by rounding alone is a tie.
  order by round(c.similarity::numeric, 12) desc, c.domain collate "C", c.number
  limit nearest_references.k
$$;
comment on function pgembed.nearest_references(text, vector, int) is
  'The k references of a router that are most similar to a query; among equals the first by domain and number.';

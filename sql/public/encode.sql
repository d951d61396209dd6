create or replace function pgembed.encode(
  collection text,
  query text,
  mode text default 'soft'
) returns vector
language plpgsql stable
set search_path from current
as $$
begin
  return (pgembed.query_vector(encode.collection, encode.query, encode.mode)).embedding;
end
$$;
comment on function pgembed.encode(text, text, text) is
  'The vector of a query text for a collection, routed as mode says: from this session''s memo, from the cache, or from a worker, for which it waits up to pgembed.timeout_ms. Write (select pgembed.encode(...)) where a query compares many rows with it.';

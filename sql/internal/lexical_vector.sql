create or replace function pgembed.lexical_vector(collection pgembed.collection, words text) returns sparsevec
language sql stable parallel safe
begin atomic
  select ('{' || coalesce(string_agg(q.dimension || ':' || q.weight::real, ','), '') || '}/536870912')::sparsevec
  from (
    select
      t.dimension,
      sum(t.weight) as weight
    from pgembed.lexical_terms(lexical_vector.collection, lexical_vector.words) as t
    group by t.dimension
  ) as q;
end;
comment on function pgembed.lexical_vector(pgembed.collection, text) is
  'The words of a query as a sparse vector of inverse document frequencies: its inner product with a chunk''s weights is the BM25 score.';

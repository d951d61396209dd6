create or replace function pgembed.bm25_weights(lexemes tsvector, average_length float8) returns sparsevec
language sql immutable strict parallel safe
return (
  -- tf (k1 + 1) / (tf + k1 (1 - b + b length / average length)), k1 = 1.2, b = 0.75: Robertson and Zaragoza 2009, equation 3.15.
  select ('{' || coalesce(string_agg(w.dimension || ':' || w.weight, ','), '') || '}/536870912')::sparsevec
  from (
    select
      pgembed.bm25_dimension(t.lexeme) as dimension,
      max(t.frequency * 2.2 / (t.frequency + 1.2 * (0.25 + 0.75 * t.length / bm25_weights.average_length)))::real as weight
    from (
      select
        u.lexeme,
        coalesce(cardinality(u.positions), 1)::float8 as frequency,
        sum(coalesce(cardinality(u.positions), 1)) over () as length
      from unnest(bm25_weights.lexemes) as u
    ) as t
    group by 1
  ) as w
);
comment on function pgembed.bm25_weights(tsvector, float8) is
  'The BM25 weights of a chunk''s lexemes, without inverse document frequency, which the query brings: so they stay right while frequencies change.';

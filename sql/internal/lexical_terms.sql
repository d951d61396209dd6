create or replace function pgembed.lexical_terms(collection pgembed.collection, words text)
returns table (lexeme text, documents bigint, weight float8, dimension int)
language sql stable parallel safe
begin atomic
  -- ln(1 + (N - df + 0.5) / (df + 0.5)), as Lucene has it: never negative. A word said twice counts twice.
  select
    t.lexeme,
    greatest(l.documents, 0) as documents,
    coalesce(cardinality(t.positions), 1)
    * ln(1 + (greatest(coalesce(s.documents, 0) - greatest(l.documents, 0), 0) + 0.5) / (greatest(l.documents, 0) + 0.5)) as weight,
    pgembed.bm25_dimension(t.lexeme) as dimension
  -- Nobody searches for more words than these.
  from unnest(to_tsvector(((lexical_terms.collection).language)::regconfig, left(lexical_terms.words, 10000))) as t
  left join pgembed.lexeme as l on l.collection = (lexical_terms.collection).name and l.lexeme = t.lexeme
  left join pgembed.lexical_statistics as s on s.collection = (lexical_terms.collection).name;
end;
comment on function pgembed.lexical_terms(pgembed.collection, text) is
  'The words of a query with their document frequencies and BM25 weights; stop words are left out.';

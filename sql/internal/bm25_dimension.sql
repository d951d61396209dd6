create or replace function pgembed.bm25_dimension(lexeme text) returns int
language sql immutable strict parallel safe
return (hashtextextended(bm25_dimension.lexeme collate "C", 0) & 536870911)::int + 1;
comment on function pgembed.bm25_dimension(text) is
  'Where a lexeme stands in the sparse vectors of BM25: a hash, from 1 to 2^29.';

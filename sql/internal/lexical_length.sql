create or replace function pgembed.lexical_length(lexemes tsvector) returns int
language sql immutable strict parallel safe
return (select coalesce(sum(coalesce(cardinality(u.positions), 1)), 0)::int from unnest(lexical_length.lexemes) as u);
comment on function pgembed.lexical_length(tsvector) is
  'How many words a chunk has, stop words excepted.';

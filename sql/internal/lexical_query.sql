create or replace function pgembed.lexical_query(language text, query text) returns tsquery
language sql stable parallel safe
return (
  -- Any of the words may match; each is quoted as a lexeme, so that no character is an operator.
  select string_agg('''' || replace(replace(t.lexeme, '\', '\\'), '''', '''''') || '''', ' | ')::tsquery
  -- A tsvector holds 1 MB; nobody searches for more words than these.
  from unnest(to_tsvector(lexical_query.language::regconfig, left(lexical_query.query, 100000))) as t
);
comment on function pgembed.lexical_query(text, text) is
  'The words of a text, any of which may match (OR); null when it has none besides stop words.';

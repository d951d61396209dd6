create or replace function pgembed.quoted_lexeme(lexeme text) returns text
language sql immutable strict parallel safe
return '''' || replace(replace(quoted_lexeme.lexeme, '\', '\\'), '''', '''''') || '''';
comment on function pgembed.quoted_lexeme(text) is
  'A lexeme as a tsquery reads it: quoted, so that no character is an operator.';

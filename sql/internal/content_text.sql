create or replace function pgembed.content_text(columns text[], alias text) returns text
language sql immutable parallel safe
-- Not by ::text, for the reason that key_text gives.
return (
  select format('concat_ws(E''\n'', %s)', string_agg(format('nullif(format(''%%s'', %I.%I), '''')', content_text.alias, c.name), ', ' order by c.position))
  from unnest(content_text.columns) with ordinality as c (name, position)
);
comment on function pgembed.content_text(text[], text) is
  'SQL expression for the text of a source row: its content columns, a line each, empty ones left out.';

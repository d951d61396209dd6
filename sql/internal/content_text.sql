create or replace function pgembed.content_text(columns text[], alias text) returns text
language sql immutable parallel safe
return (
  select format('concat_ws(E''\n'', %s)', string_agg(format('nullif(%I.%I::text, '''')', content_text.alias, c.name), ', ' order by c.position))
  from unnest(content_text.columns) with ordinality as c (name, position)
);
comment on function pgembed.content_text(text[], text) is
  'SQL expression for the text of a source row: its content columns, a line each, empty ones left out.';

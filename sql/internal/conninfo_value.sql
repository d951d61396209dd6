create or replace function pgembed.conninfo_value(value text) returns text
language sql immutable parallel safe
return '''' || replace(replace(conninfo_value.value, '\', '\\'), '''', '\''') || '''';
comment on function pgembed.conninfo_value(text) is
  'A value as libpq reads it in a connection string.';

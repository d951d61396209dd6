create or replace function pgembed.compile_filter(
  source regclass,
  filter jsonb,
  alias text default 's',
  depth int default 0
) returns text
language plpgsql stable
set search_path from current
as $$
declare
  most_bytes constant int := 100000;
  most_conditions constant int := 1000;
  bytes int := octet_length(compile_filter.filter::text);
  conditions bigint;
begin
  if compile_filter.filter is null then
    return 'true';
  end if;
  if bytes > most_bytes then
    raise exception using errcode = 'PGE02',
      message = format('the filter is %s bytes of json, more than %s', bytes, most_bytes),
      hint = 'Put long lists into a table, and join it in SQL of your own.';
  end if;
  conditions := pgembed.filter_size(compile_filter.filter);
  if conditions > most_conditions then
    raise exception using errcode = 'PGE02',
      message = format('the filter has %s conditions, more than %s', conditions, most_conditions),
      hint = 'Many values of one column are one condition: {"id": [1, 2, 3]}.';
  end if;
  return pgembed.filter_combination(
    source => compile_filter.source,
    filter => compile_filter.filter,
    alias => compile_filter.alias,
    depth => greatest(compile_filter.depth, 0),
    negated => false);
end
$$;
comment on function pgembed.compile_filter(regclass, jsonb, text, int) is
  'A filter as an SQL condition on the source table under an alias, true for the rows that match. A column, or a path into a jsonb column, maps to a value (equal), an array (one of, null among them), null (is null) or {operator: value, ...}; and, or, not combine. Columns are checked, values quoted as the column''s type; PGE02 says what is wrong.';

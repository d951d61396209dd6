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
  name text;
  value jsonb;
  parts text[] := '{}';
begin
  if compile_filter.filter is null then
    return 'true';
  elsif compile_filter.depth > 16 then
    raise exception using errcode = 'PGE02', message = 'the filter is nested deeper than 16 levels';
  elsif jsonb_typeof(compile_filter.filter) <> 'object' then
    raise exception using errcode = 'PGE02',
      message = format('a filter is a json object of columns, not %s', left(compile_filter.filter::text, 100)),
      hint = 'For example {"year": {"gte": 2020}, "topic": ["a", "b"]}.';
  end if;
  for name, value in select e.key, e.value from jsonb_each(compile_filter.filter) as e loop
    if name in ('and', 'or') then
      if jsonb_typeof(value) <> 'array' then
        raise exception using errcode = 'PGE02', message = format('%L takes an array of filters, not %s', name, left(value::text, 100));
      end if;
      parts := parts || coalesce(
        (select '(' || string_agg(pgembed.compile_filter(compile_filter.source, v.value, compile_filter.alias, compile_filter.depth + 1), ' ' || name || ' ' order by v.position) || ')'
         from jsonb_array_elements(value) with ordinality as v (value, position)),
        (name = 'and')::text);
    elsif name = 'not' then
      parts := parts || ('not ' || pgembed.compile_filter(compile_filter.source, value, compile_filter.alias, compile_filter.depth + 1));
    else
      if not exists (
        select from pg_attribute as a
        where a.attrelid = compile_filter.source and a.attname = name and a.attnum > 0 and not a.attisdropped
      ) then
        raise exception using errcode = 'PGE02',
          message = format('column %L of %s does not exist', name, compile_filter.source),
          hint = format('Its columns are %s; or use and, or, not.', pgembed.column_names(compile_filter.source));
      end if;
      parts := parts || case jsonb_typeof(value)
        when 'object' then coalesce(
          (select string_agg(pgembed.filter_condition(compile_filter.source, name, o.key, o.value, compile_filter.alias), ' and ' order by o.key)
           from jsonb_each(value) as o), 'true')
        when 'array' then pgembed.filter_condition(compile_filter.source, name, 'in', value, compile_filter.alias)
        else pgembed.filter_condition(compile_filter.source, name, 'eq', value, compile_filter.alias)
      end;
    end if;
  end loop;
  return case cardinality(parts) when 0 then 'true' else '(' || array_to_string(parts, ' and ') || ')' end;
end
$$;
comment on function pgembed.compile_filter(regclass, jsonb, text, int) is
  'A filter as an SQL condition on the source table under an alias. A column maps to a value (equal), an array (one of, null among them), null (is null) or {operator: value, ...}; and, or, not combine. Columns are checked, values quoted as the column''s type; PGE02 says what is wrong.';

create or replace function pgembed.filter_key(source regclass, key text, value jsonb, alias text, negated boolean) returns text
language plpgsql stable
set search_path from current
as $$
declare
  column_name text;
  column_type oid;
  path text[];
  operators jsonb;
begin
  -- The column of that name; else the json column with the longest name that the path begins with.
  select a.attname, a.atttypid into column_name, column_type
  from pg_attribute as a
  where a.attrelid = filter_key.source and a.attnum > 0 and not a.attisdropped
    and (a.attname = filter_key.key
      or starts_with(filter_key.key, a.attname || '.') and pgembed.filter_base_type(a.atttypid) in ('jsonb'::regtype, 'json'::regtype))
  order by length(a.attname) desc
  limit 1;
  if column_name is null then
    raise exception using errcode = 'PGE02',
      message = format('column %L of %s does not exist', left(filter_key.key, 100), filter_key.source),
      hint = format('Its columns are %s; or use and, or, not.', pgembed.column_names(filter_key.source))
        || case when filter_key.key like '%.%' then ' A path leads into a column of type jsonb or json.' else '' end;
  end if;
  if column_name <> filter_key.key then
    path := string_to_array(substr(filter_key.key, length(column_name) + 2), '.');
    if '' = any (path) or cardinality(path) not between 1 and 16 then
      raise exception using errcode = 'PGE02',
        message = format('path %I has %s', left(filter_key.key, 100),
          case when cardinality(path) > 16 then 'more than 16 segments' else 'an empty segment' end),
        hint = format('It looks like %I; keys that are empty or contain a dot are reached by contains.', column_name || '.author.name');
    end if;
  end if;
  operators := case
    when jsonb_typeof(filter_key.value) = 'object' then filter_key.value
    when filter_key.value = 'null' then '{"eq": null}'
    when path is null and pgembed.filter_element(column_type) is not null then
      jsonb_build_object(case jsonb_typeof(filter_key.value) when 'array' then 'overlaps' else 'contains' end, filter_key.value)
    else jsonb_build_object(case jsonb_typeof(filter_key.value) when 'array' then 'in' else 'eq' end, filter_key.value)
  end;
  return coalesce(
    (select string_agg(
       pgembed.filter_condition(format('%I.%I', filter_key.alias, column_name), filter_key.key, column_type, path, o.key, o.value, filter_key.negated),
       ' and ' order by o.key)
     from jsonb_each(operators) as o),
    'true');
end
$$;
comment on function pgembed.filter_key(regclass, text, jsonb, text, boolean) is
  'The conditions on one key of a filter as SQL: the column or the path that it names, and what its value is short for.';

create or replace function pgembed.filter_condition(
  source regclass,
  column_name text,
  operator text,
  value jsonb,
  alias text
) returns text
language plpgsql stable
set search_path from current
as $$
declare
  place text := format('%I.%I', filter_condition.alias, filter_condition.column_name);
  known constant text := 'eq, ne, lt, lte, gt, gte, in, nin, between, like, ilike, is_null';
  symbol text := '{"eq": "=", "ne": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}'::jsonb ->> filter_condition.operator;
  literals text[];
  equality text := pgembed.filter_operator(filter_condition.source, filter_condition.column_name, '=');
  condition text;
begin
  if symbol is not null then
    if filter_condition.value = 'null' and filter_condition.operator in ('eq', 'ne') then
      return place || case filter_condition.operator when 'eq' then ' is null' else ' is not null' end;
    end if;
    return format('%s %s %s', place, pgembed.filter_operator(filter_condition.source, filter_condition.column_name, symbol),
      pgembed.filter_literal(filter_condition.source, filter_condition.column_name, filter_condition.value));
  end if;
  case filter_condition.operator
    when 'in', 'nin', 'between' then
      if jsonb_typeof(filter_condition.value) <> 'array'
        or filter_condition.operator = 'between' and jsonb_array_length(filter_condition.value) <> 2 then
        raise exception using errcode = 'PGE02',
          message = format('operator %s of column %I takes an array%s, not %s', filter_condition.operator, filter_condition.column_name,
            case filter_condition.operator when 'between' then ' of two values' else '' end, left(filter_condition.value::text, 100));
      end if;
      select coalesce(array_agg(pgembed.filter_literal(filter_condition.source, filter_condition.column_name, v.value) order by v.position), '{}')
      into literals
      from jsonb_array_elements(filter_condition.value) with ordinality as v (value, position)
      where v.value <> 'null' or filter_condition.operator = 'between';
      condition := case
        when filter_condition.operator = 'between' then format('(%1$s %2$s %3$s and %1$s %4$s %5$s)', place,
          pgembed.filter_operator(filter_condition.source, filter_condition.column_name, '>='), literals[1],
          pgembed.filter_operator(filter_condition.source, filter_condition.column_name, '<='), literals[2])
        when cardinality(literals) = 0 then (filter_condition.operator = 'nin')::text
        when equality = '=' then format('%s %s (%s)', place, case filter_condition.operator when 'in' then 'in' else 'not in' end, array_to_string(literals, ', '))
        else format('%s(%s %s any (array[%s]))', case filter_condition.operator when 'nin' then 'not ' end, place, equality, array_to_string(literals, ', '))
      end;
      -- In SQL's own lists a null is never found, and makes "not in" find nothing.
      return case
        when not filter_condition.value @> '[null]' then condition
        when filter_condition.operator = 'in' then format('(%s or %s is null)', condition, place)
        else format('(%s and %s is not null)', condition, place)
      end;
    when 'like', 'ilike' then
      if jsonb_typeof(filter_condition.value) <> 'string' then
        raise exception using errcode = 'PGE02',
          message = format('operator %s of column %I takes a string, not %s', filter_condition.operator, filter_condition.column_name, left(filter_condition.value::text, 100));
      elsif (length(filter_condition.value #>> '{}') - length(rtrim(filter_condition.value #>> '{}', chr(92)))) % 2 = 1 then
        raise exception using errcode = 'PGE02',
          message = format('the pattern %s for column %I ends with an escape character', left(filter_condition.value::text, 100), filter_condition.column_name),
          hint = 'A backslash makes the next character literal; to mean itself it is doubled.';
      end if;
      return format('%s::text %s %L', place, filter_condition.operator, filter_condition.value #>> '{}');
    when 'is_null' then
      if jsonb_typeof(filter_condition.value) <> 'boolean' then
        raise exception using errcode = 'PGE02',
          message = format('operator is_null of column %I takes true or false, not %s', filter_condition.column_name, left(filter_condition.value::text, 100));
      end if;
      return place || case when filter_condition.value = 'true' then ' is null' else ' is not null' end;
    else
      raise exception using errcode = 'PGE02',
        message = format('there is no filter operator %L (on column %I)', filter_condition.operator, filter_condition.column_name),
        hint = format('Operators are %s.', known);
  end case;
end
$$;
comment on function pgembed.filter_condition(regclass, text, text, jsonb, text) is
  'One condition of a filter as SQL: column and operator are checked, the value is only ever a quoted literal.';

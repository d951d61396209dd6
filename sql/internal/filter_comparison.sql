create or replace function pgembed.filter_comparison(
  place text,
  absent text,
  label text,
  type oid,
  operator text,
  value jsonb
) returns text
language plpgsql stable
set search_path from current
as $$
declare
  symbol text := '{"eq": "=", "ne": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">=", "in": "=", "nin": "=", "between": "<="}'::jsonb ->> filter_comparison.operator;
  many boolean := filter_comparison.operator in ('in', 'nin', 'between');
  spelled text := pgembed.filter_operator(filter_comparison.type, symbol);
  literals text[];
  condition text;
begin
  if filter_comparison.value = 'null' then
    return filter_comparison.absent || case filter_comparison.operator when 'eq' then ' is null' else ' is not null' end;
  end if;
  select coalesce(array_agg(pgembed.filter_literal(filter_comparison.type, v.value, filter_comparison.label, spelled) order by v.position), '{}') into literals
  from jsonb_array_elements(case when many then filter_comparison.value else jsonb_build_array(filter_comparison.value) end) with ordinality as v (value, position)
  where v.value <> 'null';
  condition := case
    when not many then format('%s %s %s', filter_comparison.place, spelled, literals[1])
    when filter_comparison.operator = 'between' then format('(%1$s %2$s %3$s and %1$s %4$s %5$s)', filter_comparison.place,
      pgembed.filter_operator(filter_comparison.type, '>='), literals[1], spelled, literals[2])
    when cardinality(literals) = 0 then (filter_comparison.operator = 'nin')::text
    when spelled = '=' then format('%s %s (%s)', filter_comparison.place,
      case filter_comparison.operator when 'in' then 'in' else 'not in' end, array_to_string(literals, ', '))
    else format('%s(%s %s any (array[%s]))', case filter_comparison.operator when 'nin' then 'not ' end, filter_comparison.place, spelled, array_to_string(literals, ', '))
  end;
  -- In SQL's own lists a null is never found, and makes "not in" find nothing.
  return case
    when not many or not filter_comparison.value @> '[null]' then condition
    when filter_comparison.operator = 'in' then format('(%s or %s is null)', condition, filter_comparison.absent)
    else format('(%s and %s is not null)', condition, filter_comparison.absent)
  end;
end
$$;
comment on function pgembed.filter_comparison(text, text, text, oid, text, jsonb) is
  'A comparison of a filter as SQL: eq, ne, lt, lte, gt, gte, in, nin or between of an expression of a type; absent is the expression whose null a null in the value means.';

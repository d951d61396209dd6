create or replace function pgembed.filter_elements(place text, label text, type oid, operator text, value jsonb) returns text
language plpgsql stable
set search_path from current
as $$
declare
  -- Of operators on int[], those of intarray would be found first, and they fail on a null among the elements.
  spelled text := format('operator(pg_catalog.%s)', case filter_elements.operator when 'contains' then '@>' else '&&' end);
  -- Where it is no list it is the one element.
  elements jsonb := case jsonb_typeof(filter_elements.value) when 'array' then filter_elements.value else jsonb_build_array(filter_elements.value) end;
  given jsonb := jsonb_path_query_array(elements, 'strict $[*] ? (@ != null)');
  condition text := format('%s %s %s', filter_elements.place, spelled,
    pgembed.filter_literal(filter_elements.type, given, filter_elements.label, spelled));
begin
  return case
    when filter_elements.operator = 'overlaps' and given = '[]' and elements = given then 'false'
    when filter_elements.operator = 'overlaps' and given = '[]' then filter_elements.place || ' is null'
    when elements = given then condition
    else format('(%s or %s is null)', condition, filter_elements.place)
  end;
end
$$;
comment on function pgembed.filter_elements(text, text, oid, text, jsonb) is
  'Contains or overlaps of an array column as SQL. A null in the list of overlaps finds the rows where the column is null, as it does in a list of values.';

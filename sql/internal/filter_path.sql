create or replace function pgembed.filter_path(
  document text,
  label text,
  path text[],
  operator text,
  value jsonb,
  indexed boolean
) returns text
language plpgsql stable
set search_path from current
as $$
declare
  node text := format('(%s #> %L::text[])', filter_path.document, filter_path.path);
  content text := format('(%s #>> %L::text[])', filter_path.document, filter_path.path);
  given jsonb := case when filter_path.operator in ('in', 'nin', 'between') then filter_path.value else jsonb_build_array(filter_path.value) end;
  kinds text[] := array(select distinct jsonb_typeof(v.value) from jsonb_array_elements(given) as v where v.value <> 'null' order by 1);
  is_scalar boolean := not kinds && '{object,array}';
  -- What could be an index of an array has no one document that contains it.
  is_keys boolean := (select bool_and(s.segment !~ '^\s*[-+]?[0-9]+$') from unnest(filter_path.path) as s (segment));
  guard text := format('case when jsonb_typeof%s in (%s) then ', node, (select string_agg(quote_literal(k.kind), ', ') from unnest(kinds) as k (kind)));
begin
  case
    when filter_path.operator = 'is_null' then
      return content || case when filter_path.value = 'true' then ' is null' else ' is not null' end;
    when filter_path.operator = 'has_key' then
      return format('%s ? %L', node, filter_path.value #>> '{}');
    when filter_path.operator in ('like', 'ilike') then
      return format('%s%s end %s %L', guard, content, filter_path.operator, filter_path.value #>> '{}');
    when filter_path.operator = 'contains' then
      return case
        when filter_path.indexed and is_keys and not is_scalar then format('%s @> %L::jsonb', filter_path.document, pgembed.filter_nested(filter_path.path, filter_path.value))
        else format('%s @> %L::jsonb', node, filter_path.value)
      end;
    when filter_path.operator in ('eq', 'in') and filter_path.indexed and is_keys and is_scalar and cardinality(kinds) > 0
      -- Each value repeats the path, so that long lists would grow out of all proportion.
      and jsonb_array_length(given) <= 100 then
      -- True for the same rows as the comparison below, and served by a GIN index on the column. Where that is unknown, this is false.
      return (
        select format(
          case when filter_path.operator = 'eq' then '%1$s @> %2$s' when given @> '[null]' then '(%1$s @> any (array[%2$s]) or %3$s is null)' else '%1$s @> any (array[%2$s])' end,
          filter_path.document, string_agg(format('%L::jsonb', pgembed.filter_nested(filter_path.path, v.value)), ', ' order by v.position), content)
        from jsonb_array_elements(given) with ordinality as v (value, position)
        where v.value <> 'null');
    when filter_path.operator in ('eq', 'ne', 'in', 'nin') then
      return pgembed.filter_comparison(guard || node || ' end', content, filter_path.label, 'jsonb'::regtype, filter_path.operator, filter_path.value);
    when not is_scalar or cardinality(kinds) > 1 then
      raise exception using errcode = 'PGE02',
        message = format('operator %s of %s takes %s, not %s', filter_path.operator, filter_path.label,
          case when is_scalar then 'two values of one type' else 'numbers, strings or booleans' end, left(filter_path.value::text, 100));
    when kinds = '{string}' then
      return pgembed.filter_comparison(guard || content || ' end', content, filter_path.label, 'text'::regtype, filter_path.operator, filter_path.value);
    else
      return pgembed.filter_comparison(format('%s%s::%s end', guard, content, case kinds[1] when 'number' then 'numeric' else 'boolean' end), content, filter_path.label,
        case kinds[1] when 'number' then 'numeric'::regtype else 'boolean'::regtype end, filter_path.operator, filter_path.value);
  end case;
end
$$;
comment on function pgembed.filter_path(text, text, text[], text, jsonb, boolean) is
  'One condition of a filter on a path into a json document as SQL: values of another type than the filter''s, and missing ones, compare as unknown. Indexed allows false for unknown, for conditions that an index serves.';

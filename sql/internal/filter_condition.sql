create or replace function pgembed.filter_condition(
  place text,
  key text,
  type oid,
  path text[],
  operator text,
  value jsonb,
  negated boolean
) returns text
language plpgsql stable
set search_path from current
as $$
declare
  known text := 'eq, ne, lt, lte, gt, gte, in, nin, between, like, ilike, is_null';
  label text := format('%s %I', case when filter_condition.path is null then 'column' else 'path' end, left(filter_condition.key, 100));
  base oid := pgembed.filter_base_type(filter_condition.type);
  is_json boolean := base in ('jsonb'::regtype, 'json'::regtype);
  is_array boolean := pgembed.filter_element(base) is not null;
  shape text := jsonb_typeof(filter_condition.value);
  wanted text;
  -- A json text that jsonb cannot hold counts as null, rather than to end the search.
  document text := case base when 'json'::regtype then format('pgembed.filter_document(%s)', filter_condition.place) else filter_condition.place end;
begin
  known := known || case when is_json then ', contains, has_key' when is_array then ', contains, overlaps' else '' end;
  if filter_condition.operator <> all (string_to_array(known, ', ')) then
    raise exception using errcode = 'PGE02',
      message = format('there is no filter operator %L (on %s)', left(filter_condition.operator, 100), label),
      hint = format('Operators are %s.', known)
        || case when is_json or is_array then '' else ' Arrays and jsonb have contains too, arrays overlaps, and jsonb has_key.' end;
  end if;
  wanted := case
    when filter_condition.operator = 'between' and (shape <> 'array' or jsonb_array_length(filter_condition.value) <> 2) then 'an array of two values'
    when filter_condition.operator in ('in', 'nin', 'overlaps') and shape <> 'array' then 'an array'
    when filter_condition.operator in ('like', 'ilike', 'has_key') and shape <> 'string' then 'a string'
    when filter_condition.operator = 'is_null' and shape <> 'boolean' then 'true or false'
  end;
  if wanted is not null then
    raise exception using errcode = 'PGE02',
      message = format('operator %s of %s takes %s, not %s', filter_condition.operator, label, wanted, left(filter_condition.value::text, 100));
  elsif filter_condition.operator in ('lt', 'lte', 'gt', 'gte') and shape = 'null'
    or filter_condition.operator = 'between' and filter_condition.value @> '[null]'
    or filter_condition.operator = 'contains' and is_array and (shape = 'null' or filter_condition.value @> '[null]') then
    raise exception using errcode = 'PGE02',
      message = format('%s compares with a value, not with null', label),
      hint = format('To find the rows where it is null: {%s: null}.', to_json(left(filter_condition.key, 100)));
  elsif filter_condition.operator in ('like', 'ilike')
    and (length(filter_condition.value #>> '{}') - length(rtrim(filter_condition.value #>> '{}', chr(92)))) % 2 = 1 then
    raise exception using errcode = 'PGE02',
      message = format('the pattern %s for %s ends with an escape character', left(filter_condition.value::text, 100), label),
      hint = 'A backslash makes the next character literal; to mean itself it is doubled.';
  end if;
  return case
    when filter_condition.path is not null then pgembed.filter_path(
      document, label, filter_condition.path, filter_condition.operator, filter_condition.value,
      indexed => base = 'jsonb'::regtype and not filter_condition.negated)
    when filter_condition.operator = 'is_null' then
      filter_condition.place || case when filter_condition.value = 'true' then ' is null' else ' is not null' end
    when filter_condition.operator in ('like', 'ilike') then
      format('%s::text %s %L', filter_condition.place, filter_condition.operator, filter_condition.value #>> '{}')
    when filter_condition.operator = 'has_key' then format('%s ? %L', document, filter_condition.value #>> '{}')
    when filter_condition.operator = 'contains' and is_json then format('%s @> %L::jsonb', document, filter_condition.value)
    when filter_condition.operator in ('contains', 'overlaps') then
      pgembed.filter_elements(filter_condition.place, label, base, filter_condition.operator, filter_condition.value)
    else pgembed.filter_comparison(
      place => document,
      absent => filter_condition.place,
      label => label,
      type => case when is_json then 'jsonb'::regtype::oid else filter_condition.type end,
      operator => filter_condition.operator,
      value => filter_condition.value)
  end;
end
$$;
comment on function pgembed.filter_condition(text, text, oid, text[], text, jsonb, boolean) is
  'One condition of a filter as SQL: operator and kind of value are checked, the value is only ever a quoted literal.';

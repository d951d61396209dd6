create or replace function pgembed.filter_literal(type oid, value jsonb, label text, operator text) returns text
language plpgsql stable
set search_path from current
as $$
declare
  type_name text := format_type(filter_literal.type, -1);
  element oid := pgembed.filter_element(filter_literal.type);
  shape text := jsonb_typeof(filter_literal.value);
  shown text := left(filter_literal.value::text, 100);
  literal text;
begin
  if filter_literal.type in ('jsonb'::regtype, 'json'::regtype) then
    return format('%L::%s', filter_literal.value, type_name);
  elsif element is not null and shape <> 'array' then
    raise exception using errcode = 'PGE02',
      message = format('%s is an array and compares with an array, not with %s', filter_literal.label, shown),
      hint = 'To find the rows with that element use contains; with one of several elements, overlaps.';
  elsif element is null and shape in ('object', 'array') then
    raise exception using errcode = 'PGE02',
      message = format('%s compares with one value, not with %s', filter_literal.label, shown);
  end if;
  if element is not null then
    -- A domain's check is about whole arrays, and some of the elements need not pass it.
    literal := format('array[%s]::%s',
      (select string_agg(
         case v.value when 'null' then 'null' else pgembed.filter_literal(element, v.value, 'the elements of ' || filter_literal.label, '=') end,
         ', ' order by v.position)
       from jsonb_array_elements(filter_literal.value) with ordinality as v (value, position)),
      format_type(pgembed.filter_base_type(filter_literal.type), -1));
  else
    literal := format('%L::%s', filter_literal.value #>> '{}', type_name);
  end if;
  begin
    -- Only when it runs does an array's operator find that the elements have none.
    execute format('select %1$s %2$s %1$s', literal, filter_literal.operator);
  exception
    when undefined_function then
      raise exception using errcode = 'PGE02', message = format('%s does not compare with %s', filter_literal.label, shown), hint = sqlerrm;
    when others then
      -- A type's input, or a domain's check, may raise anything.
      raise exception using errcode = 'PGE02',
        message = format('%s is no %s, the type of %s', shown, type_name, filter_literal.label),
        hint = sqlerrm;
  end;
  return literal;
end
$$;
comment on function pgembed.filter_literal(oid, jsonb, text, text) is
  'A json value as an SQL literal of a type, or an array of quoted literals; PGE02 when it is none, or when the type lacks the operator.';

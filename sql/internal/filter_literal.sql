create or replace function pgembed.filter_literal(source regclass, column_name text, value jsonb) returns text
language plpgsql stable
set search_path from current
as $$
declare
  type_name text;
  literal text;
begin
  select format_type(a.atttypid, -1) into type_name
  from pg_attribute as a
  where a.attrelid = filter_literal.source and a.attname = filter_literal.column_name and not a.attisdropped;
  if filter_literal.value = 'null' then
    raise exception using errcode = 'PGE02',
      message = format('column %I compares with a value, not with null', filter_literal.column_name),
      hint = format('To find the rows where it is null: {%s: null}.', to_json(filter_literal.column_name));
  elsif jsonb_typeof(filter_literal.value) in ('object', 'array') and type_name not in ('jsonb', 'json') then
    raise exception using errcode = 'PGE02',
      message = format('column %I compares with one value, not with %s', filter_literal.column_name, left(filter_literal.value::text, 100));
  end if;
  literal := format('%L::%s',
    case when type_name in ('jsonb', 'json') then filter_literal.value::text else filter_literal.value #>> '{}' end, type_name);
  begin
    execute 'select ' || literal;
  exception when others then
    -- A type's input, or a domain's check, may raise anything.
    raise exception using errcode = 'PGE02',
      message = format('%s is no %s, the type of column %I', left(filter_literal.value::text, 100), type_name, filter_literal.column_name),
      hint = sqlerrm;
  end;
  return literal;
end
$$;
comment on function pgembed.filter_literal(regclass, text, jsonb) is
  'A json value as a quoted SQL literal of a column''s type; PGE02 when it is none.';

create or replace function pgembed.column_names(relation regclass) returns text
language sql stable parallel safe
begin atomic
  select string_agg(format('%I', a.attname), ', ' order by a.attnum)
  from pg_catalog.pg_attribute as a
  where a.attrelid = column_names.relation and a.attnum > 0 and not a.attisdropped;
end;
comment on function pgembed.column_names(regclass) is
  'The columns of a table, quoted where needed and separated by commas: for error messages.';

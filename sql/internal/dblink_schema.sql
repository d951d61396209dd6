create or replace function pgembed.dblink_schema() returns text
language sql stable parallel safe
begin atomic
  select quote_ident(n.nspname)
  from pg_catalog.pg_extension as e
  join pg_catalog.pg_namespace as n on n.oid = e.extnamespace
  where e.extname = 'dblink';
end;
comment on function pgembed.dblink_schema() is
  'The schema that dblink is installed in, quoted; null without it.';

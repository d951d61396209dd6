create or replace function pgembed.close_loopback() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  channel constant text := 'pgembed_loopback';
  dblink text := pgembed.dblink_schema();
  is_open boolean;
begin
  if dblink is not null then
    execute format('select $1 = any(%s.dblink_get_connections())', dblink) into is_open using channel;
    if is_open then
      execute format('select %s.dblink_disconnect($1)', dblink) using channel;
    end if;
  end if;
end
$$;
comment on function pgembed.close_loopback() is
  'Closes this session''s second connection where it has one.';

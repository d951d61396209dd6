create or replace function pgembed.open_loopback() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  conninfo text := (select l.conninfo from pgembed.loopback as l);
  dblink text := pgembed.dblink_schema();
  reason text;
begin
  if dblink is null or conninfo is null then
    perform pgembed.raise_failure('query texts from SQL are not set up in this database', 'PGE06', 'Set them up: pgembed migrate --sql-encode');
  end if;
  execute format('select %s.dblink_connect(''pgembed_loopback'', $1)', dblink) using conninfo;
exception when others then
  if sqlstate = 'PGE06' then
    raise;
  end if;
  get stacked diagnostics reason = pg_exception_detail;
  perform pgembed.raise_failure(
    format('this session cannot reach its database a second time: %s', concat_ws(': ', sqlerrm, nullif(reason, ''))),
    'PGE06', 'Look what is wrong: pgembed doctor');
end
$$;
revoke all on function pgembed.open_loopback() from public;
comment on function pgembed.open_loopback() is
  'Connects this session to its database a second time.';

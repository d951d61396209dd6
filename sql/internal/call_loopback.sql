create or replace function pgembed.call_loopback(
  statement text,
  out state text,
  out token uuid,
  out cache_key uuid,
  out answer text,
  out error text,
  out code text,
  out hint text
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  channel constant text := 'pgembed_loopback';
  conninfo text := (select l.conninfo from pgembed.loopback as l);
  dblink text := pgembed.dblink_schema();
  is_open boolean;
  is_connecting boolean := false;
  is_second boolean := false;
  reason text;
begin
  if dblink is null or conninfo is null then
    perform pgembed.raise_failure('query texts from SQL are not set up in this database', 'PGE06', 'Set them up: pgembed migrate --sql-encode');
  end if;
  loop
    execute format('select $1 = any(%s.dblink_get_connections())', dblink) into is_open using channel;
    begin
      if is_open is not true then
        is_connecting := true;
        execute format('select %s.dblink_connect($1, $2)', dblink) using channel, conninfo;
        is_connecting := false;
      end if;
      execute format(
        'select t.* from %s.dblink($1, $2) as t (state text, token uuid, cache_key uuid, answer text, error text, code text, hint text)', dblink)
      into state, token, cache_key, answer, error, code, hint using channel, call_loopback.statement;
      return;
    exception when others then
      if is_connecting or is_second then
        get stacked diagnostics reason = pg_exception_detail;
        perform pgembed.raise_failure(
          format('this session cannot reach its database a second time: %s', concat_ws(': ', sqlerrm, nullif(reason, ''))),
          'PGE06', 'Look what is wrong: pgembed doctor');
      end if;
      -- It may be long closed, by idle_session_timeout or a restart: once more with a new one.
      execute format('select %s.dblink_disconnect($1)', dblink) using channel;
      is_second := true;
    end;
  end loop;
end
$$;
revoke all on function pgembed.call_loopback(text) from public;
comment on function pgembed.call_loopback(text) is
  'Runs submit_request or fetch_request over this session''s second connection, which is opened when it is missing or lost; in a transaction of its own, so that a worker sees it.';

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
  calling constant text := format(
    'select t.* from %s.dblink(''pgembed_loopback'', $1) as t (state text, token uuid, cache_key uuid, answer text, error text, code text, hint text)',
    pgembed.dblink_schema());
  tries int := 0;
begin
  loop
    begin
      tries := tries + 1;
      -- The connection is not looked for first, but found missing or lost.
      execute calling into state, token, cache_key, answer, error, code, hint using call_loopback.statement;
      return;
    exception when others then
      if tries = 3 then
        perform pgembed.raise_failure(format('the second connection of this session failed: %s', sqlerrm), 'PGE06', 'Look what is wrong: pgembed doctor');
      end if;
    end;
    -- It may be long closed, by idle_session_timeout or a restart.
    perform pgembed.close_loopback();
    perform pgembed.open_loopback();
  end loop;
end
$$;
revoke all on function pgembed.call_loopback(text) from public;
comment on function pgembed.call_loopback(text) is
  'Runs submit_request or fetch_request over this session''s second connection, which is opened when it is missing or lost; in a transaction of its own, so that a worker sees it.';

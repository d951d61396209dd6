create or replace function pgembed.request_deadline() returns timestamptz
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  return clock_timestamp() + pgembed.timeout_ms() * interval '1 millisecond';
end
$$;
comment on function pgembed.request_deadline() is
  'Until when a session that asks a worker now waits.';

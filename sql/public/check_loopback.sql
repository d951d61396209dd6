create or replace function pgembed.check_loopback() returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  reached text;
begin
  -- A new connection, so that the password and the host of now are tried; any error is the answer.
  perform pgembed.close_loopback();
  select c.error into reached from pgembed.call_loopback(
    'select null, null, null, null, concat_ws('' of '', current_database(), extract(epoch from pg_postmaster_start_time())), null, null') as c;
  if not pg_is_in_recovery() and reached is distinct from concat_ws(' of ', current_database(), extract(epoch from pg_postmaster_start_time())) then
    return format('the loopback reaches another server or database: %s', reached);
  end if;
  return null;
exception when sqlstate 'PGE06' then
  return sqlerrm;
end
$$;
revoke all on function pgembed.check_loopback() from public;
comment on function pgembed.check_loopback() is
  'Connects to this database a second time as pgembed.encode does: null where that works, else why it does not.';

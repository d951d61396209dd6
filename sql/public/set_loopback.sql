create or replace function pgembed.set_loopback(
  host text default '127.0.0.1',
  port int default null
) returns text
language plpgsql
set search_path from current
as $$
declare
  role text := pgembed.loopback_role();
  -- 244 random bits.
  password text := replace(gen_random_uuid()::text || gen_random_uuid(), '-', '');
  setting text;
begin
  if not exists (select from pg_roles as r where r.rolname = role) then
    execute format('create role %I', role);
  end if;
  execute format('alter role %I login noinherit password %L', role, password);
  if not has_database_privilege(role, current_database(), 'connect') then
    execute format('grant connect on database %I to %I', current_database(), role);
  end if;
  execute format('grant usage on schema pgembed to %I', role);
  execute format('grant execute on function pgembed.submit_request(text, text, text), pgembed.fetch_request(uuid, boolean, int) to %I', role);
  foreach setting in array array[
    'idle_session_timeout = ''60s''', 'statement_timeout = ''5s''', 'synchronous_commit = off',
    'default_transaction_isolation = ''read committed''', 'default_transaction_read_only = off', 'search_path = pg_catalog, pg_temp'
  ] loop
    execute format('alter role %I in database %I set %s', role, current_database(), setting);
  end loop;
  insert into pgembed.loopback as l (conninfo)
  values (format(
    'host=%s port=%s dbname=%s user=%s password=%s target_session_attrs=read-write connect_timeout=3 application_name=pgembed-loopback',
    pgembed.conninfo_value(set_loopback.host), coalesce(set_loopback.port, current_setting('port')::int),
    pgembed.conninfo_value(current_database()), pgembed.conninfo_value(role), password))
  on conflict (only_one) do update set conninfo = excluded.conninfo, created_at = now();
  return role;
end
$$;
comment on function pgembed.set_loopback(text, int) is
  'Sets up query texts from SQL: makes the role that sessions connect to this database with a second time, or gives it a new password, and notes how to connect. Commit, then check_loopback. host is a list, separated by commas, where another server may become the primary; port is this server''s unless given.';

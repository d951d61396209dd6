create or replace function pgembed.doctor_loopback() returns table (name text, verdict text, detail text, remedy text)
language plpgsql
set search_path from current
as $$
#variable_conflict use_column
declare
  role text := pgembed.loopback_role();
  problem text;
  excess text;
begin
  name := 'loopback';
  verdict := 'ok';
  if pgembed.dblink_schema() is null or not exists (select from pgembed.loopback) then
    verdict := 'warning';
    detail := case when pgembed.dblink_schema() is null then 'the extension dblink is missing' else 'it is not set up' end || ': query texts from SQL get no answer';
    remedy := 'Where you search with texts from SQL: pgembed migrate --sql-encode';
    return next;
    return;
  end if;
  problem := pgembed.check_loopback();
  detail := coalesce(problem, 'the database reaches itself a second time');
  if problem is not null then
    verdict := 'failed';
    remedy := 'Set it up anew: pgembed migrate --sql-encode --loopback-host <a host that this server reaches itself by>';
  end if;
  return next;
  name := 'dblink';
  select string_agg(p.oid::regprocedure::text, ', ') into excess
  from pg_proc as p
  where p.proname = 'dblink' and p.pronamespace::regnamespace::text = pgembed.dblink_schema() and has_function_privilege('public', p.oid, 'execute');
  verdict := case when excess is null then 'ok' else 'warning' end;
  detail := case
    when excess is null then 'only who was granted it may run dblink'
    else 'everybody may run dblink, and with it statements over the second connections of sessions: they see which texts others search with, and can stop text queries'
  end;
  remedy := case when excess is not null then format(
    'Where you do not trust every user: revoke execute on its functions in schema %s from public, and grant it to the owner of schema pgembed.', pgembed.dblink_schema()) end;
  return next;
  name := 'loopback role';
  select string_agg(e.what, ', ' order by e.what) into excess
  from (
    select 'superuser' as what from pg_roles as r where r.rolname = role and r.rolsuper
    union all select 'createrole' from pg_roles as r where r.rolname = role and r.rolcreaterole
    union all select 'createdb' from pg_roles as r where r.rolname = role and r.rolcreatedb
    union all select 'replication' from pg_roles as r where r.rolname = role and r.rolreplication
    union all select 'bypassrls' from pg_roles as r where r.rolname = role and r.rolbypassrls
    union all select format('member of %I', g.rolname) from pg_auth_members as m join pg_roles as r on r.oid = m.member join pg_roles as g on g.oid = m.roleid
    where r.rolname = role
    union all select format('may read or write %s', t.oid::regclass)
    from pg_class as t
    join pg_namespace as n on n.oid = t.relnamespace
    join pg_roles as r on r.rolname = role
    where t.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname !~ '^(pg_|information_schema$)'
      -- What everybody may is no privilege of this role.
      and not has_table_privilege('public', t.oid, 'select, insert, update, delete, truncate')
      and has_table_privilege(r.oid, t.oid, 'select, insert, update, delete, truncate')
    union all select format('may run %s', p.oid::regprocedure)
    from pg_proc as p
    join pg_roles as r on r.rolname = role
    where p.prosecdef and p.pronamespace = 'pgembed'::regnamespace and p.proname not in ('submit_request', 'fetch_request')
      and has_function_privilege(r.oid, p.oid, 'execute')
  ) as e;
  verdict := case when excess is null then 'ok' else 'failed' end;
  detail := case
    when excess is null then format('%s may hand in and fetch texts, and nothing more', role)
    else format('%s has more than it should: %s', role, excess)
  end;
  remedy := case when excess is not null then 'Every user who may run dblink has the rights of this role: revoke them.' end;
  return next;
end
$$;
comment on function pgembed.doctor_loopback() is
  'Checks of pgembed.doctor: the second connection of a session, and the role that it is made with.';

create or replace function pgembed.living_claimers() returns int[]
language sql stable
begin atomic
  select coalesce(array_agg(l.objid::int), '{}')
  from pg_catalog.pg_locks as l
  join pg_catalog.pg_database as d on d.oid = l.database
  where l.locktype = 'advisory' and l.classid = 726101 and l.granted and d.datname = current_database();
end;
comment on function pgembed.living_claimers() is
  'Numbers of the sessions that hold a claimer''s advisory lock now: a killed session lets go of it at once.';

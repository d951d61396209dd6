create or replace function pgembed.doctor() returns table (name text, verdict text, detail text, remedy text)
language plpgsql
set search_path from current
as $$
#variable_conflict use_column
declare
  installed text := (select e.extversion from pg_extension as e where e.extname = 'vector');
  version int[] := string_to_array(substring(installed from '^[0-9.]+'), '.')::int[];
  serving text;
  item pgembed.collection;
begin
  return query select
    'pgvector', case when version < '{0,8,0}' then 'failed' when version < '{0,8,4}' then 'warning' else 'ok' end,
    format('version %s', installed),
    case when version < '{0,8,4}' then 'Install 0.8.4 or newer, which has bugs of the index repaired; then: alter extension vector update;' end;
  return query select d.* from pgembed.doctor_loopback() as d;
  for serving in select distinct c.encoder from pgembed.collection as c order by 1 loop
    return query select d.* from pgembed.doctor_encoder(serving) as d;
  end loop;
  for item in select c.* from pgembed.collection as c order by c.name loop
    return query select d.* from pgembed.doctor_collection(item) as d;
  end loop;
end
$$;
comment on function pgembed.doctor() is
  'What the database can tell of its health, a row a check: ok, warning or failed, with what was found and what to do. For the owner of schema pgembed.';

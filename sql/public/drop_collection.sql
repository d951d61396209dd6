create or replace function pgembed.drop_collection(name text) returns void
language plpgsql
set search_path from current
as $$
declare
  dropped pgembed.collection := pgembed.collection_named(drop_collection.name);
  trigger_name text;
begin
  perform pgembed.lock_queue(dropped.name);
  if exists (select from pg_class as r where r.oid = dropped.source) then
    for trigger_name in select t.name from pgembed.our_triggers(dropped) as t loop
      execute format('drop trigger %I on %s', trigger_name, dropped.source);
    end loop;
  end if;
  perform pgembed.drop_wrappers(dropped.name);
  execute format('drop table if exists pgembed_data.%I', dropped.name);
  delete from pgembed.change as c where c.collection = dropped.name;
  delete from pgembed.collection as c where c.name = dropped.name;
end
$$;
comment on function pgembed.drop_collection(text) is
  'Removes a collection, its vectors, queue and judgments; the source table stays as it is, less our triggers.';

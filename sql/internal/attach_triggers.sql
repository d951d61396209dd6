create or replace function pgembed.attach_triggers(collection pgembed.collection) returns void
language plpgsql
set search_path from current
as $$
declare
  prefix text := 'pgembed_' || left(md5(collection.name), 8);
  always boolean := collection.capture = 'always';
begin
  if not always and (select r.relkind from pg_class as r where r.oid = collection.source) <> 'p' then
    execute format(
      'create or replace trigger %I after insert on %s referencing new table as new_rows
       for each statement execute function pgembed.capture_changes(%L)',
      prefix || '_insert', collection.source, collection.name);
    execute format(
      'create or replace trigger %I after update on %s referencing old table as old_rows new table as new_rows
       for each statement execute function pgembed.capture_changes(%L)',
      prefix || '_update', collection.source, collection.name);
    return;
  end if;
  -- Only row-level triggers see rows that are written to a partition directly, and reach partitions to come; and
  -- logical replication fires no others. Its deletes do not cascade either.
  execute format(
    'create or replace trigger %I after insert or update %s on %s for each row execute function pgembed.capture_changes(%L)',
    prefix || '_row', case when always then 'or delete' else '' end, collection.source, collection.name);
  if always then
    execute format(
      'create or replace trigger %I after truncate on %s for each statement execute function pgembed.capture_changes(%L)',
      prefix || '_truncate', collection.source, collection.name);
    execute format(
      'alter table %s enable always trigger %I, enable always trigger %I', collection.source, prefix || '_row', prefix || '_truncate');
  end if;
end
$$;
comment on function pgembed.attach_triggers(pgembed.collection) is
  'Puts the triggers on a source table: two statement-level ones; row-level ones where it is partitioned, or where replication is to be seen too. Deletes need none: the foreign key cascades, replicated ones excepted.';

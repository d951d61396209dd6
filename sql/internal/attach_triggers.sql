create or replace function pgembed.attach_triggers(collection pgembed.collection) returns void
language plpgsql
set search_path from current
as $$
declare
  prefix text := 'pgembed_' || left(md5(collection.name), 8);
begin
  if (select r.relkind from pg_class as r where r.oid = collection.source) = 'p' then
    -- Only row-level triggers see rows that are written to a partition directly, and reach partitions to come.
    execute format(
      'create or replace trigger %I after insert or update on %s
       for each row execute function pgembed.capture_changes(%L)',
      prefix || '_row', collection.source, collection.name);
    return;
  end if;
  execute format(
    'create or replace trigger %I after insert on %s referencing new table as new_rows
     for each statement execute function pgembed.capture_changes(%L)',
    prefix || '_insert', collection.source, collection.name);
  execute format(
    'create or replace trigger %I after update on %s referencing old table as old_rows new table as new_rows
     for each statement execute function pgembed.capture_changes(%L)',
    prefix || '_update', collection.source, collection.name);
end
$$;
comment on function pgembed.attach_triggers(pgembed.collection) is
  'Puts the triggers on a source table: two statement-level ones, or a row-level one where it is partitioned. Deletes need none: the foreign key cascades.';

create or replace function pgembed.attach_triggers(collection pgembed.collection) returns void
language plpgsql
set search_path from current
as $$
begin
  execute format(
    'create or replace trigger %I after insert on %s referencing new table as new_rows
     for each statement execute function pgembed.capture_changes(%L)',
    'pgembed_' || left(md5(collection.name), 8) || '_insert', collection.source, collection.name);
  execute format(
    'create or replace trigger %I after update on %s referencing old table as old_rows new table as new_rows
     for each statement execute function pgembed.capture_changes(%L)',
    'pgembed_' || left(md5(collection.name), 8) || '_update', collection.source, collection.name);
end
$$;
comment on function pgembed.attach_triggers(pgembed.collection) is
  'Puts the two statement-level triggers on a source table. Deletes need none: the foreign key cascades.';

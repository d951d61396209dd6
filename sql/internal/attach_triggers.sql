create or replace function pgembed.attach_triggers(collection pgembed.collection) returns void
language plpgsql
set search_path from current
as $$
declare
  prefix text := 'pgembed_' || left(md5(collection.name), 8);
  always boolean := collection.capture = 'always';
  executed text := format(
    'execute function pgembed.capture_changes(%L, %L, %L, %L, %L)',
    collection.name, collection.key_columns, collection.content_columns, coalesce(collection.expires_column, ''), collection.capture);
begin
  if not always and (select r.relkind from pg_class as r where r.oid = collection.source) <> 'p' then
    execute format(
      'create or replace trigger %I after insert on %s referencing new table as new_rows for each statement %s',
      prefix || '_insert', collection.source, executed);
    execute format(
      'create or replace trigger %I after update on %s referencing old table as old_rows new table as new_rows for each statement %s',
      prefix || '_update', collection.source, executed);
    return;
  end if;
  -- Only row-level triggers see rows that are written to a partition directly, and reach partitions to come; and
  -- logical replication fires no others. Its deletes do not cascade either.
  execute format(
    'create or replace trigger %I after insert or update %s on %s for each row %s',
    prefix || '_row', case when always then 'or delete' else '' end, collection.source, executed);
  if always then
    execute format(
      'create or replace trigger %I after truncate on %s for each statement %s',
      prefix || '_truncate', collection.source, executed);
    execute format(
      'alter table %s enable always trigger %I, enable always trigger %I', collection.source, prefix || '_row', prefix || '_truncate');
  end if;
end
$$;
comment on function pgembed.attach_triggers(pgembed.collection) is
  'Puts the triggers on a source table, or puts them right: two statement-level ones; row-level ones where it is partitioned, or where replication is to be seen too. Deletes need none: the foreign key cascades, replicated ones excepted.';

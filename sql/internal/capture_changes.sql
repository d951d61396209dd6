create or replace function pgembed.capture_changes() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
-- A key must have one text whatever the writer's settings are.
set datestyle = 'ISO, MDY'
set timezone = 'UTC'
set intervalstyle = 'postgres'
set bytea_output = 'hex'
set extra_float_digits = 1
as $$
declare
  collection pgembed.collection;
  changed text := 'select %1$s as key from new_rows as n';
  present text[];
begin
  select c.* into collection from pgembed.collection as c where c.name = tg_argv[0];
  if not found then
    return null;
  end if;
  if tg_op = 'UPDATE' then
    select array_agg(a.attname::text) into present
    from pg_attribute as a
    where a.attrelid = collection.source and a.attnum > 0 and not a.attisdropped
      and a.attname = any (collection.content_columns);
    -- With a content column lost, nothing tells changed rows from others: all of them are stale.
    if cardinality(present) = cardinality(collection.content_columns) then
      changed := changed || ' where not exists (select from old_rows as o where %2$s and %3$s is not distinct from %4$s)';
    end if;
  end if;
  execute format(
    'insert into pgembed.stale (collection, key) select $1, changed.key from (' || changed || ') as changed order by changed.key
     on conflict (collection, key) do update
     set version = default, enqueued_at = now(), attempts = 0, claimed_by = null, leased_until = null',
    pgembed.key_text(collection.key_columns, 'n'),
    -- As texts, because an extension's equality may lie outside the pinned search path.
    pgembed.key_text(collection.key_columns, 'o') || ' = ' || pgembed.key_text(collection.key_columns, 'n'),
    pgembed.content_text(collection.content_columns, 'o'),
    pgembed.content_text(collection.content_columns, 'n')
  ) using collection.name;
  return null;
end
$$;
revoke all on function pgembed.capture_changes() from public;
comment on function pgembed.capture_changes() is
  'Trigger of every source table: rows whose content changed become stale in the writer''s own transaction.';

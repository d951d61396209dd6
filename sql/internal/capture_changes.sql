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
  changed text := 'select %1$s as key from %5$s as n';
  present text[];
begin
  select c.* into collection from pgembed.collection as c where c.name = tg_argv[0];
  -- A virtual column has no value in a trigger.
  select array_agg(a.attname::text) into present
  from pg_attribute as a
  where a.attrelid = collection.source and a.attnum > 0 and not a.attisdropped and a.attgenerated <> 'v'
    and a.attname = any (collection.key_columns || collection.content_columns);
  -- Without its key a row has no name: the writer goes on, and claim and search say what is missing.
  if present @> collection.key_columns is not true then
    return null;
  end if;
  -- With a content column lost, nothing tells changed rows from others: all of them are stale.
  if tg_op = 'UPDATE' and present @> collection.content_columns then
    changed := changed || ' where not exists (select from %6$s as o where %2$s and %3$s is not distinct from %4$s)';
  end if;
  execute format(
    'insert into pgembed.stale (collection, key) select $1, changed.key from (' || changed || ') as changed order by changed.key
     on conflict (collection, key) do update
     set version = default, enqueued_at = now(), attempts = 0, claimed_by = null, leased_until = null',
    pgembed.key_text(collection.key_columns, 'n'),
    -- As texts, because an extension's equality may lie outside the pinned search path.
    pgembed.key_text(collection.key_columns, 'o') || ' = ' || pgembed.key_text(collection.key_columns, 'n'),
    pgembed.content_text(collection.content_columns, 'o'),
    pgembed.content_text(collection.content_columns, 'n'),
    case tg_level when 'ROW' then '(select ($2).*)' else 'new_rows' end,
    case tg_level when 'ROW' then '(select ($3).*)' else 'old_rows' end
  ) using collection.name, new, old;
  return null;
end
$$;
revoke all on function pgembed.capture_changes() from public;
comment on function pgembed.capture_changes() is
  'Trigger of every source table: rows whose content changed become stale in the writer''s own transaction.';

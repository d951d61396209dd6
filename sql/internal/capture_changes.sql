create or replace function pgembed.capture_changes() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set work_mem = '32MB'
-- A key must have one text whatever the writer's settings are.
set datestyle = 'ISO, MDY'
set timezone = 'UTC'
set intervalstyle = 'postgres'
set bytea_output = 'hex'
set extra_float_digits = 1
as $$
declare
  collection pgembed.collection;
  wanted text[];
  present text[];
  old_key text;
  new_key text;
  same_row text;
  same_content text;
  changed text;
begin
  -- From the trigger's own arguments: the snapshot of a repeatable read writer may be older than the collection.
  collection.name := tg_argv[0];
  collection.source := tg_relid;
  collection.key_columns := tg_argv[1];
  collection.content_columns := tg_argv[2];
  collection.expires_column := nullif(tg_argv[3], '');
  collection.capture := tg_argv[4];
  wanted := array_remove(collection.key_columns || collection.content_columns || collection.expires_column, null);
  -- A virtual column has no value in a trigger.
  select array_agg(a.attname::text) into present
  from pg_attribute as a
  where a.attrelid = collection.source and a.attnum > 0 and not a.attisdropped and a.attgenerated <> 'v' and a.attname = any (wanted);
  -- Without its key a row has no name: the writer goes on, and claim and search say what is missing.
  if present @> collection.key_columns is not true then
    return null;
  end if;
  old_key := pgembed.key_text(collection.key_columns, 'o');
  new_key := pgembed.key_text(collection.key_columns, 'n');
  if tg_op = 'UPDATE' then
    select
      string_agg(
        -- An extension's equality may lie outside the pinned search path.
        case when t.typnamespace = 'pg_catalog'::regnamespace then format('o.%1$I = n.%1$I', k.name) else format('format(''%%s'', o.%1$I) = format(''%%s'', n.%1$I)', k.name) end,
        ' and ' order by k.position)
    into same_row
    from unnest(collection.key_columns) with ordinality as k (name, position)
    join pg_attribute as a on a.attrelid = collection.source and a.attname = k.name and not a.attisdropped
    join pg_type as t on t.oid = a.atttypid;
    -- By their bytes, which every type has. With a content column lost, nothing tells changed rows from others: all are stale.
    select
      case when present @> wanted then format('row(%s)::record *= row(%s)::record', string_agg(format('o.%I', c.name), ', '), string_agg(format('n.%I', c.name), ', ')) else 'false' end
    into same_content
    from unnest(array_remove(collection.content_columns || collection.expires_column, null)) as c (name);
  end if;
  if tg_op = 'TRUNCATE' then
    changed := format('select distinct %s as key from pgembed_data.%I as d', pgembed.key_text(pgembed.side_key(collection), 'd'), collection.name);
  elsif tg_level = 'STATEMENT' then
    changed := format('select %s as key from new_rows as n', new_key) || case tg_op
      when 'UPDATE' then format(' where not exists (select from old_rows as o where %s and %s)', same_row, same_content) else '' end;
  else
    changed := case tg_op
      when 'INSERT' then format('select %s as key from (select ($2).*) as n', new_key)
      when 'DELETE' then format('select %s as key from (select ($3).*) as o', old_key)
      -- Under replication nothing cascades: the old key is a row that is gone.
      else format(
        'select c.key from (select ($2).*) as n cross join (select ($3).*) as o cross join lateral (
           select %1$s as key where not (%3$s and %4$s) union select %2$s where $4 and not (%3$s)) as c',
        new_key, old_key, same_row, same_content)
    end;
  end if;
  execute format(
    'with changed as (%s),
     numbered as (select c.key, row_number() over () as place from changed as c)
     insert into pgembed.change (collection, priority, row_count, keys)
     select $1, case when max(n.place) > 100 then 1 else 0 end, count(*), array_agg(n.key)
     from numbered as n
     group by (n.place - 1) / 1000',
    changed) using collection.name, new, old, collection.capture = 'always';
  return null;
end
$$;
revoke all on function pgembed.capture_changes() from public;
comment on function pgembed.capture_changes() is
  'Trigger of every source table: writes the keys of rows whose content changed to pgembed.change, in the writer''s own transaction.';

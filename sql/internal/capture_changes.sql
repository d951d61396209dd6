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
  wanted text[];
  present text[];
  -- As texts, because an extension's equality may lie outside the pinned search path.
  old_key text;
  new_key text;
  same_content text;
  changed text;
begin
  select c.* into collection from pgembed.collection as c where c.name = tg_argv[0];
  wanted := collection.key_columns || collection.content_columns || collection.expires_column;
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
  -- With a content column lost, nothing tells changed rows from others: all of them are stale.
  same_content := case
    when present @> array_remove(wanted, null) then format(
      '%s is not distinct from %s%s',
      pgembed.content_text(collection.content_columns, 'o'),
      pgembed.content_text(collection.content_columns, 'n'),
      case when collection.expires_column is null then '' else format(' and o.%1$I is not distinct from n.%1$I', collection.expires_column) end)
    else 'false'
  end;
  if tg_op = 'TRUNCATE' then
    changed := format('select %s as key from pgembed_data.%I as d', pgembed.key_text(pgembed.side_key(collection), 'd'), collection.name);
  elsif tg_level = 'STATEMENT' then
    changed := format('select %s as key from new_rows as n', new_key) || case tg_op
      when 'UPDATE' then format(' where not exists (select from old_rows as o where %s = %s and %s)', old_key, new_key, same_content) else '' end;
  else
    changed := case tg_op
      when 'INSERT' then format('select %s as key from (select ($2).*) as n', new_key)
      when 'DELETE' then format('select %s as key from (select ($3).*) as o', old_key)
      else format(
        'select k.key from (select ($2).*) as n cross join (select ($3).*) as o cross join lateral (values (%1$s), (%2$s)) as k (key)
         where case when k.key = %1$s then %1$s <> %2$s or not (%3$s) else $4 end',
        new_key, old_key, same_content)
    end;
  end if;
  execute format(
    'insert into pgembed.change (collection, priority, row_count, keys)
     select $1, case when t.total > 100 then 1 else 0 end, count(*), array_agg(t.key)
     from (
       select c.key, count(*) over () as total, (row_number() over () - 1) / 1000 as part from (select distinct d.key from (%s) as d) as c
     ) as t
     group by t.part, t.total',
    changed) using collection.name, new, old, collection.capture = 'always';
  return null;
end
$$;
revoke all on function pgembed.capture_changes() from public;
comment on function pgembed.capture_changes() is
  'Trigger of every source table: writes the keys of rows whose content changed to pgembed.change, in the writer''s own transaction.';

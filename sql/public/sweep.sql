create or replace function pgembed.sweep(collection text, max_rows int default 10000) returns bigint
language plpgsql
set search_path from current
set datestyle = 'ISO, MDY'
set timezone = 'UTC'
set intervalstyle = 'postgres'
set bytea_output = 'hex'
set extra_float_digits = 1
as $$
declare
  swept pgembed.collection := pgembed.collection_named(sweep.collection);
  marked bigint := 0;
begin
  -- One worker a collection is enough.
  if not pg_try_advisory_xact_lock(726105, hashtext(swept.name)) then
    return 0;
  end if;
  perform pgembed.check_source(swept);
  perform pgembed.lock_queue(swept.name);
  execute format(
    'delete from pgembed.failure as f where f.collection = $1 and f.attempts > 0 and not exists (select from %s as s where %s)',
    swept.source, pgembed.key_match(swept, swept.key_columns, 's', 'f.key')
  ) using swept.name;
  if swept.expires_column is not null then
    -- Claimed, an expired row counts as deleted: its chunks go.
    execute format(
      'insert into pgembed.stale (collection, key, priority)
       select $1, %1$s, 2 from %2$s as s
       where s.%3$I <= now() and exists (select from pgembed_data.%4$I as d where %5$s)
       limit $2
       on conflict do nothing',
      pgembed.key_text(swept.key_columns, 's'), swept.source, swept.expires_column, swept.name, pgembed.side_join(swept, 'd', 's')
    ) using swept.name, sweep.max_rows;
    get diagnostics marked = row_count;
  end if;
  return marked;
end
$$;
comment on function pgembed.sweep(text, int) is
  'Puts expired rows that still have chunks into the queue, where their chunks are deleted, and forgets failures of rows that are gone. Returns how many expired rows it found; workers call it every minute.';

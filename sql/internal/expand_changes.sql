create or replace function pgembed.expand_changes(collection text, max_keys int) returns bigint
language plpgsql
set search_path from current
as $$
declare
  moved bigint;
  long_keys text[];
begin
  with listed as (
    select
      c.priority,
      c.id,
      sum(c.row_count) over (order by c.priority, c.id) - c.row_count as keys_before
    from pgembed.change as c
    where c.collection = expand_changes.collection
    order by c.priority, c.id
    limit 10000
  ),
  taken as (
    delete from pgembed.change as c
    using listed as l
    where c.collection = expand_changes.collection and c.priority = l.priority and c.id = l.id
      and l.keys_before < expand_changes.max_keys
    returning c.priority, c.keys, c.changed_at
  ),
  written as (
    insert into pgembed.stale as t (collection, key, priority, enqueued_at)
    select
      expand_changes.collection,
      k.key,
      min(n.priority) as priority,
      min(n.changed_at) as enqueued_at
    from taken as n
    cross join unnest(n.keys) as k (key)
    where octet_length(k.key) <= 2000
    group by k.key
    order by k.key
    -- The earliest time stays: a row that changes all the time is not put off for ever.
    on conflict on constraint stale_pkey do update
    set
      version = default,
      priority = least(t.priority, excluded.priority),
      enqueued_at = least(t.enqueued_at, excluded.enqueued_at),
      -- Whoever is at the row goes on: with several sessions a row that changes all the time would never be written else.
      leased_until = case when t.claimed_by is not null then t.leased_until end,
      attempts = 0
    returning t.key
  )
  select (select count(*) from written), (select array_agg(k.key) from taken as n cross join unnest(n.keys) as k (key) where octet_length(k.key) > 2000)
  into moved, long_keys;
  if long_keys is not null then
    perform pgembed.refuse_long_keys(expand_changes.collection, long_keys);
  end if;
  return moved;
end
$$;
comment on function pgembed.expand_changes(text, int) is
  'Moves what writers changed to the queue, a row a key, edits before bulk changes; stops after so many keys. Returns how many.';

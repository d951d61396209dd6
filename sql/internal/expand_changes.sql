create or replace function pgembed.expand_changes(collection text, max_keys int) returns bigint
language sql
begin atomic
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
    group by k.key
    order by k.key
    -- The earliest time stays: a row that changes all the time is not put off for ever.
    on conflict (collection, key) do update
    set
      version = default,
      priority = least(t.priority, excluded.priority),
      enqueued_at = least(t.enqueued_at, excluded.enqueued_at),
      attempts = 0,
      claimed_by = null,
      leased_until = null
    returning t.key
  )
  select count(*) from written;
end;
comment on function pgembed.expand_changes(text, int) is
  'Moves what writers changed to the queue, a row a key, edits before bulk changes; stops after so many keys. Returns how many.';

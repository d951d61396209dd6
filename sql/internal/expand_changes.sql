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
    where octet_length(k.key) <= 2000
    group by k.key
    order by k.key
    -- The earliest time stays: a row that changes all the time is not put off for ever.
    on conflict (collection, key) do update
    set
      version = default,
      priority = least(t.priority, excluded.priority),
      enqueued_at = least(t.enqueued_at, excluded.enqueued_at),
      -- Whoever is at the row goes on: with several sessions a row that changes all the time would never be written else.
      leased_until = case when t.claimed_by is not null then t.leased_until end,
      attempts = 0
    returning t.key
  ),
  unnamed as (
    insert into pgembed.failure as f (collection, key, error, attempts)
    select
      expand_changes.collection,
      'md5:' || md5(k.key) as short_key,
      format('the key has %s bytes, and at most 2000 fit into the queue: %s...', octet_length(k.key), left(k.key, 100)) as reason,
      0 as attempts
    from taken as n
    cross join unnest(n.keys) as k (key)
    where octet_length(k.key) > 2000
    group by k.key
    on conflict (collection, key) do update
    set failed_at = now()
  )
  select count(*) from written;
end;
comment on function pgembed.expand_changes(text, int) is
  'Moves what writers changed to the queue, a row a key, edits before bulk changes; stops after so many keys. Returns how many.';

create or replace function pgembed.waiting_collections(collections text[] default null) returns table (name text, priority smallint, since timestamptz)
language sql stable
begin atomic
  with living as materialized (select pgembed.living_claimers() as ids),
  first as (
    select
      c.name,
      coalesce(least(t.priority, g.priority), t.priority, g.priority) as priority,
      least(t.enqueued_at, g.changed_at) as since
    from pgembed.collection as c
    cross join living as l
    left join lateral (
      -- Of what a claim would get.
      select
        s.priority,
        s.enqueued_at
      from pgembed.stale as s
      where s.collection = c.name
        and (s.leased_until is null or s.leased_until < clock_timestamp() or s.claimed_by <> all(l.ids))
      order by s.priority, s.enqueued_at
      limit 1
    ) as t on true
    left join lateral (
      select
        n.priority,
        n.changed_at
      from pgembed.change as n
      where n.collection = c.name
      order by n.priority, n.id
      limit 1
    ) as g on true
    where c.paused_at is null and (waiting_collections.collections is null or c.name = any(waiting_collections.collections))
  )
  select
    f.name,
    f.priority,
    f.since
  from first as f
  where f.since is not null
  order by f.priority, f.since;
end;
comment on function pgembed.waiting_collections(text[]) is
  'Collections with something that can be claimed, paused ones excepted, in the order in which a worker should look at them: those with edits first, then by age.';

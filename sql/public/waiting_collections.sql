create or replace function pgembed.waiting_collections(collections text[] default null) returns table (name text, priority smallint, since timestamptz)
language sql stable
begin atomic
  select
    c.name,
    w.priority,
    w.since
  from pgembed.collection as c
  cross join lateral (
    select
      u.priority,
      u.since
    from (
      (select t.priority, t.enqueued_at as since from pgembed.stale as t where t.collection = c.name order by t.priority, t.enqueued_at limit 1)
      union all
      (select g.priority, g.changed_at from pgembed.change as g where g.collection = c.name order by g.priority, g.id limit 1)
    ) as u
    order by u.priority, u.since
    limit 1
  ) as w
  where c.paused_at is null and (waiting_collections.collections is null or c.name = any(waiting_collections.collections))
  order by w.priority, w.since;
end;
comment on function pgembed.waiting_collections(text[]) is
  'Collections with something to embed, paused ones excepted, in the order in which a worker should look at them: those with edits first, then by age.';

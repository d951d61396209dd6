create or replace function pgembed.release(
  claimer int,
  rest interval default '0'
) returns bigint
language sql
begin atomic
  -- In the order of the others who lock several rows.
  with mine as materialized (
    select
      t.collection,
      t.key
    from pgembed.stale as t
    where t.claimed_by = release.claimer
    order by t.collection, t.key
    for update
  ),
  freed as (
    -- Given back before it was tried: the claim does not count as a failed one.
    update pgembed.stale as t
    set
      claimed_by = null,
      leased_until = case when release.rest > '0' then clock_timestamp() + release.rest end,
      attempts = greatest(t.attempts - 1, 0)
    from mine
    where t.collection = mine.collection and t.key = mine.key
    returning t.key
  )
  select count(*) from freed;
end;
comment on function pgembed.release(int, interval) is
  'Gives the rows that a session claimed and did not finish back to the queue, where they may rest for a while before anybody claims them; returns how many.';

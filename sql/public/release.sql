create or replace function pgembed.release(
  claimer int,
  rest interval default '0'
) returns bigint
language sql
begin atomic
  with freed as (
    -- Given back before it was tried: the claim does not count as a failed one.
    update pgembed.stale as t
    set
      claimed_by = null,
      leased_until = case when release.rest > '0' then clock_timestamp() + release.rest end,
      attempts = greatest(t.attempts - 1, 0)
    where t.claimed_by = release.claimer
    returning t.key
  )
  select count(*) from freed;
end;
comment on function pgembed.release(int, interval) is
  'Gives the rows that a session claimed and did not finish back to the queue, where they may rest for a while before anybody claims them; returns how many.';

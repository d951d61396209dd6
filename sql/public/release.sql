create or replace function pgembed.release(claimer int) returns bigint
language sql
begin atomic
  with freed as (
    -- Given back before it was tried: the claim does not count as a failed one.
    update pgembed.stale as t
    set claimed_by = null, leased_until = null, attempts = greatest(t.attempts - 1, 0)
    where t.claimed_by = release.claimer
    returning t.key
  )
  select count(*) from freed;
end;
comment on function pgembed.release(int) is
  'Gives the rows that a session claimed and did not finish back to the queue; returns how many.';

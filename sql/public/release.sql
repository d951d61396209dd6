create or replace function pgembed.release(claimer int) returns bigint
language sql
begin atomic
  -- A row that a writer has locked is being marked stale anew, which frees it too.
  with mine as materialized (
    select
      t.collection,
      t.key
    from pgembed.stale as t
    where t.claimed_by = release.claimer
    for update skip locked
  ),
  freed as (
    update pgembed.stale as t
    set claimed_by = null, leased_until = null
    from mine
    where t.collection = mine.collection and t.key = mine.key
    returning t.key
  )
  select count(*) from freed;
end;
comment on function pgembed.release(int) is
  'Gives the rows that a session claimed and did not finish back to the queue; returns how many.';

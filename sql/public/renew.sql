create or replace function pgembed.renew(claimer int, lease interval) returns bigint
language sql
begin atomic
  -- In the order of the others who lock several rows.
  with mine as materialized (
    select
      t.collection,
      t.key
    from pgembed.stale as t
    where t.claimed_by = renew.claimer
    order by t.collection, t.key
    for update
  ),
  renewed as (
    update pgembed.stale as t
    set leased_until = clock_timestamp() + renew.lease
    from mine
    where t.collection = mine.collection and t.key = mine.key
    returning t.key
  )
  select count(*) from renewed;
end;
comment on function pgembed.renew(int, interval) is
  'Prolongs the lease of the rows that a session is at; returns how many are still its own.';

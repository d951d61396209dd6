create or replace function pgembed.renew(claimer int, lease interval) returns bigint
language sql
begin atomic
  with renewed as (
    update pgembed.stale as t
    set leased_until = clock_timestamp() + renew.lease
    where t.claimed_by = renew.claimer
    returning t.key
  )
  select count(*) from renewed;
end;
comment on function pgembed.renew(int, interval) is
  'Prolongs the lease of the rows that a session is at; returns how many are still its own.';

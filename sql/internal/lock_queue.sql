create or replace function pgembed.lock_queue(collection text) returns void
language sql
begin atomic
  select pg_catalog.pg_advisory_xact_lock(726103, pg_catalog.hashtext(lock_queue.collection));
end;
comment on function pgembed.lock_queue(text) is
  'Makes those who claim rows of a collection, and those who mark many, wait for each other until their transaction ends.';

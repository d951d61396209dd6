create or replace function pgembed.has_encode_worker(encoder text) returns boolean
language sql
-- In one expression, so that no cancel comes between and leaves the lock behind.
return case
  when pg_try_advisory_lock(726104, hashtext(has_encode_worker.encoder)) then not pg_advisory_unlock(726104, hashtext(has_encode_worker.encoder))
  else true
end;
comment on function pgembed.has_encode_worker(text) is
  'Whether another session encodes query texts with an encoder now; a killed worker counts no longer at once.';

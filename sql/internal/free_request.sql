create or replace function pgembed.free_request(request pgembed.encode_request) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A living claimer holds its lock shared. In one expression, so that no cancel comes between and leaves the lock behind.
  if request.claimed_by is null or not (pg_try_advisory_lock(726101, request.claimed_by) and pg_advisory_unlock(726101, request.claimed_by)) then
    return;
  end if;
  -- A text that killed two workers would kill the others too.
  update pgembed.encode_request as r
  set claimed_by = null,
    error = case when r.attempts >= 2 then 'two workers died while they encoded this text' end,
    error_code = case when r.attempts >= 2 then 'PGE06' end,
    error_hint = case when r.attempts >= 2 then 'Look into their logs before you ask again.' end,
    answered_at = case when r.attempts >= 2 then clock_timestamp() end
  where r.token = request.token and r.claimed_by = request.claimed_by and r.answered_at is null;
  perform pg_notify('pgembed_request', '');
end
$$;
revoke all on function pgembed.free_request(pgembed.encode_request) from public;
comment on function pgembed.free_request(pgembed.encode_request) is
  'Gives a request to the other workers where the one that took it is dead.';

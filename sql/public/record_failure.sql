create or replace function pgembed.record_failure(
  collection text,
  claimer int,
  key text,
  version bigint,
  error text
) returns boolean
language plpgsql
set search_path from current
as $$
declare
  tried int;
begin
  delete from pgembed.stale as t
  where t.collection = record_failure.collection and t.key = record_failure.key
    and t.version = record_failure.version and t.claimed_by = record_failure.claimer
  returning t.attempts into tried;
  if not found then
    -- It changed meanwhile: others may look at it.
    update pgembed.stale as t set claimed_by = null, leased_until = null
    where t.collection = record_failure.collection and t.key = record_failure.key and t.claimed_by = record_failure.claimer;
    return false;
  end if;
  insert into pgembed.failure (collection, key, error, attempts)
  values (record_failure.collection, record_failure.key, record_failure.error, tried)
  on conflict on constraint failure_pkey do update
  set error = excluded.error, attempts = excluded.attempts, failed_at = now();
  return true;
end
$$;
comment on function pgembed.record_failure(text, int, text, bigint, text) is
  'Moves a claimed row that cannot be embedded from the queue to pgembed.failure; false when it changed meanwhile and is tried again.';

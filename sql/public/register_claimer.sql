create or replace function pgembed.register_claimer() returns int
language plpgsql
set search_path from current
as $$
declare
  claimer int := nextval('pgembed.claimer');
begin
  perform pg_advisory_lock_shared(726101, claimer);
  return claimer;
end
$$;
comment on function pgembed.register_claimer() is
  'A number under which this session claims stale rows, held by an advisory lock until the session ends.';

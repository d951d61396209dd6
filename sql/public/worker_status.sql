create or replace function pgembed.worker_status() returns table (
  id int,
  host text,
  pid int,
  version text,
  alive boolean,
  collections text[],
  started_at timestamptz,
  seen_at timestamptz,
  requests bigint,
  documents bigint,
  chunks bigint,
  failures bigint,
  throughput float8,
  last_error text,
  last_error_at timestamptz
)
language sql stable
begin atomic
  with known as (
    select
      w.*,
      w.id = any(pgembed.living_claimers()) as alive
    from pgembed.worker as w
  )
  select
    k.id,
    k.host,
    k.pid,
    k.version,
    k.alive,
    k.collections,
    k.started_at,
    k.seen_at,
    k.requests,
    k.documents,
    k.chunks,
    k.failures,
    k.throughput,
    k.last_error,
    k.last_error_at
  from known as k
  order by k.alive desc, k.seen_at desc;
end;
comment on function pgembed.worker_status() is
  'Workers of the last day: whether each is connected now, what it did since its start, rows a second of late, and its last error.';

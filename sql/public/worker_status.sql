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
  select
    w.id,
    w.host,
    w.pid,
    w.version,
    w.id = any(pgembed.living_claimers()) as alive,
    w.collections,
    w.started_at,
    w.seen_at,
    w.requests,
    w.documents,
    w.chunks,
    w.failures,
    w.throughput,
    w.last_error,
    w.last_error_at
  from pgembed.worker as w
  order by alive desc, w.seen_at desc;
end;
comment on function pgembed.worker_status() is
  'Workers of the last day: whether each is connected now, what it did since its start, rows a second of late, and its last error.';

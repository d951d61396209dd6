create or replace function pgembed.report_worker(
  id int,
  host text,
  pid int,
  version text,
  collections text[],
  requests bigint,
  documents bigint,
  chunks bigint,
  failures bigint,
  throughput float8,
  last_error text,
  last_error_at timestamptz
) returns void
language sql
begin atomic
  insert into pgembed.worker as w (id, host, pid, version, collections, requests, documents, chunks, failures, throughput, last_error, last_error_at)
  values (
    report_worker.id, report_worker.host, report_worker.pid, report_worker.version, report_worker.collections, report_worker.requests,
    report_worker.documents, report_worker.chunks, report_worker.failures, report_worker.throughput, report_worker.last_error, report_worker.last_error_at
  )
  on conflict (id) do update
  set
    seen_at = now(),
    requests = excluded.requests,
    documents = excluded.documents,
    chunks = excluded.chunks,
    failures = excluded.failures,
    throughput = excluded.throughput,
    last_error = excluded.last_error,
    last_error_at = excluded.last_error_at;
  -- The dead are of interest for a day.
  delete from pgembed.worker as w where w.seen_at < now() - interval '1 day';
end;
comment on function pgembed.report_worker(int, text, int, text, text[], bigint, bigint, bigint, bigint, float8, text, timestamptz) is
  'What a worker says of itself every few seconds: what it did since its start, and rows a second of late.';

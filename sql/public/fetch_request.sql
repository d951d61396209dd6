create or replace function pgembed.fetch_request(
  token uuid,
  abandon boolean default false,
  wait_ms int default 0
) returns table (state text, answer vector, error text, code text, hint text)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  request pgembed.encode_request;
  looks int := 0;
  -- Short, because a call over dblink cannot be cancelled.
  deadline constant timestamptz := clock_timestamp() + least(fetch_request.wait_ms, 20) * interval '1 millisecond';
begin
  loop
    select r.* into request from pgembed.encode_request as r where r.token = fetch_request.token;
    exit when request.token is null or request.answered_at is not null or fetch_request.abandon or clock_timestamp() >= deadline;
    -- Whoever waits longer has others beside him: each look costs the processor that answers.
    perform pg_sleep(case when looks < 4 then 0.001 else 0.002 end);
    looks := looks + 1;
  end loop;
  if request.token is not null and (request.answered_at is not null or fetch_request.abandon) then
    -- Read again: the answer may have come meanwhile.
    delete from pgembed.encode_request as r where r.token = fetch_request.token returning r.* into request;
  end if;
  answer := request.answer;
  error := request.error;
  code := request.error_code;
  hint := request.error_hint;
  if request.answered_at is not null then
    state := case when error is null then 'answered' else 'failed' end;
  elsif request.token is null or fetch_request.abandon then
    state := 'gone';
  elsif pgembed.has_encode_worker(request.encoder) then
    state := 'waiting';
    perform pgembed.free_request(request);
  else
    delete from pgembed.encode_request as r where r.token = fetch_request.token;
    state := 'failed';
    select w.error, w.code, w.hint into error, code, hint from pgembed.no_worker(request.encoder) as w;
  end if;
  return next;
end
$$;
revoke all on function pgembed.fetch_request(uuid, boolean, int) from public;
comment on function pgembed.fetch_request(uuid, boolean, int) is
  'What became of a request, after up to wait_ms, 20 at most: waiting, answered, failed with error, code and hint, or gone. What is told is deleted; abandon deletes it in any case. A request whose worker died while at it is given to the others.';

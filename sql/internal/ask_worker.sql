create or replace function pgembed.ask_worker(
  encoder text,
  mode text,
  query text,
  out answer vector,
  out answered_key uuid,
  out source text
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  deadline timestamptz;
  reply record;
  request uuid;
begin
  -- Made here, not given: nobody finds out whether another text is kept.
  answered_key := pgembed.query_key(ask_worker.encoder, ask_worker.mode, ask_worker.query);
  source := 'cache';
  -- A standby cannot read the cache, and knows nothing of the locks of the primary: the loopback asks there.
  if not pg_is_in_recovery() then
    select c.embedding into answer from pgembed.encode_cache as c where c.cache_key = answered_key;
    if answer is not null then
      return;
    end if;
  end if;
  deadline := pgembed.request_deadline();
  if not pg_is_in_recovery() and not pgembed.has_encode_worker(ask_worker.encoder) then
    perform pgembed.raise_failure(w.error, w.code, w.hint) from pgembed.no_worker(ask_worker.encoder) as w;
  end if;
  reply := pgembed.call_loopback(format(
    'select null, s.token, s.cache_key, s.answer, s.error, s.code, s.hint from pgembed.submit_request(%L, %L, %L) as s',
    ask_worker.encoder, ask_worker.mode, ask_worker.query));
  request := reply.token;
  answered_key := reply.cache_key;
  if request is not null then
    source := 'worker';
    begin
      loop
        reply := pgembed.call_loopback(format(
          'select f.state, null, null, f.answer, f.error, f.code, f.hint from pgembed.fetch_request(%L, %L, 20) as f',
          request, clock_timestamp() > deadline));
        exit when reply.state <> 'waiting';
      end loop;
    exception when query_canceled then
      perform pgembed.call_loopback(format(
        'select f.state, null, null, null, null, null, null from pgembed.fetch_request(%L, true) as f', request));
      raise;
    end;
  end if;
  if reply.error is not null then
    perform pgembed.raise_failure(reply.error, reply.code, reply.hint);
  elsif reply.answer is null then
    perform pgembed.raise_failure(n.error, n.code, n.hint) from pgembed.no_answer(ask_worker.encoder) as n;
  end if;
  answer := reply.answer;
end
$$;
revoke all on function pgembed.ask_worker(text, text, text) from public;
comment on function pgembed.ask_worker(text, text, text) is
  'The routed vector of a text from the cache, or from a worker over this session''s second connection, with the key under which it is true. PGE06 where none answers within pgembed.timeout_ms.';

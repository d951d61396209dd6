create or replace procedure pgembed.prepare_query(
  collection text,
  query text,
  mode text default 'soft'
)
language plpgsql
-- Without a search path of its own, which a procedure that commits cannot have: names are qualified,
-- and operators meet the very types that pg_catalog has them for.
as $$
declare
  encoder constant text := (pgembed.collection_named(prepare_query.collection)).encoder;
  deadline constant timestamptz := pgembed.request_deadline();
  reply record;
  request uuid;
  key text;
begin
  perform pgembed.check_query_text(prepare_query.query);
  perform pgembed.check_mode(encoder, prepare_query.mode);
  select s.* into reply from pgembed.submit_request(encoder, prepare_query.mode, prepare_query.query) as s;
  request := reply.token;
  key := reply.cache_key;
  commit;
  while request is not null loop
    select f.* into reply from pgembed.fetch_request(request, pg_catalog.clock_timestamp() > deadline, 20) as f;
    commit;
    exit when reply.state <> 'waiting';
  end loop;
  if reply.error is not null then
    perform pgembed.raise_failure(reply.error, reply.code, reply.hint);
  elsif reply.answer is null then
    perform pgembed.raise_failure(n.error, n.code, n.hint) from pgembed.no_answer(encoder) as n;
  end if;
  perform pg_catalog.set_config('pgembed.memo_key', key, false), pg_catalog.set_config('pgembed.memo_vector', reply.answer::pg_catalog.text, false);
end
$$;
comment on procedure pgembed.prepare_query is
  'Encodes a text where the database cannot connect to itself: call it outside of a transaction, and this session''s next search or encode of the same text finds the vector. It commits.';

create or replace function pgembed.query_vector(
  collection text,
  query text,
  mode text,
  out embedding vector,
  out source text
)
language plpgsql stable
set search_path from current
as $$
declare
  encoder text := (pgembed.collection_named(query_vector.collection)).encoder;
  wanted uuid;
  reply record;
begin
  perform pgembed.check_query_text(query_vector.query);
  if coalesce(query_vector.mode, '') not in ('soft', 'hard') then
    perform pgembed.check_mode(encoder, query_vector.mode);
  end if;
  wanted := pgembed.query_key(encoder, query_vector.mode, query_vector.query);
  -- A query may call a stable function once for every row: what this session got last is kept.
  if current_setting('pgembed.memo_key', true) = wanted::text then
    source := 'memo';
    embedding := current_setting('pgembed.memo_vector', true);
    return;
  end if;
  reply := pgembed.ask_worker(encoder, query_vector.mode, query_vector.query);
  embedding := reply.answer;
  source := reply.source;
  -- Another key: the worker sees another routing, because this transaction changed it, or a standby is behind.
  if reply.answered_key = wanted then
    perform set_config('pgembed.memo_key', wanted::text, false), set_config('pgembed.memo_vector', reply.answer::text, false);
  end if;
end
$$;
comment on function pgembed.query_vector(text, text, text) is
  'The routed vector of a text, and where it came from: the memo of this session, the cache, or a worker.';

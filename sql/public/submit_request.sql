create or replace function pgembed.submit_request(
  encoder text,
  mode text,
  query text
) returns table (token uuid, cache_key uuid, answer vector, error text, code text, hint text)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  -- Made here, not given: nobody can put his text's vector under the key of another text.
  cache_key := pgembed.query_key(submit_request.encoder, submit_request.mode, submit_request.query);
  select c.embedding into answer from pgembed.encode_cache as c where c.cache_key = submit_request.cache_key;
  if answer is not null then
    return next;
    return;
  elsif cache_key is null or not pgembed.has_encode_worker(submit_request.encoder) then
    select w.error, w.code, w.hint into error, code, hint from pgembed.no_worker(submit_request.encoder) as w;
    return next;
    return;
  end if;
  insert into pgembed.encode_request as r (encoder, routing_version, mode, query, cache_key)
  values (
    submit_request.encoder, pgembed.routing_version(submit_request.encoder), submit_request.mode, submit_request.query, submit_request.cache_key)
  returning r.token into token;
  perform pg_notify('pgembed_request', '');
  return next;
end
$$;
revoke all on function pgembed.submit_request(text, text, text) from public;
comment on function pgembed.submit_request(text, text, text) is
  'Hands a query text to the workers of an encoder: a token to fetch the answer with, or the answer where it is in the cache, or why there will be none. Commit, so that a worker sees it.';

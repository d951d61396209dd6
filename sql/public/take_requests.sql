create or replace function pgembed.take_requests(
  claimer int,
  encoders text[],
  max_rows int default 32
) returns table (token uuid, encoder text, routing_version text, mode text, query text, cache_key uuid)
language sql
begin atomic
  -- Materialized, because a nested loop over it would lock another max_rows rows each time.
  with free as materialized (
    select r.token from pgembed.encode_request as r
    where r.answered_at is null and r.claimed_by is null and r.encoder = any(take_requests.encoders)
    order by r.number
    limit take_requests.max_rows
    for update skip locked
  ),
  taken as (
    update pgembed.encode_request as r set claimed_by = take_requests.claimer, attempts = r.attempts + 1
    from free
    where r.token = free.token
    returning r.token, r.encoder, r.routing_version, r.mode, r.query, r.cache_key, r.number
  )
  select
    t.token,
    t.encoder,
    t.routing_version,
    t.mode,
    t.query,
    t.cache_key
  from taken as t
  order by t.number;
end;
comment on function pgembed.take_requests(int, text[], int) is
  'Takes query texts that wait for one of these encoders, oldest first, never one that another worker is at. Commit, encode, then answer_requests.';

create or replace function pgembed.answer_requests(
  claimer int,
  tokens uuid[],
  answers vector[],
  errors text[],
  codes text[],
  hints text[]
) returns int
language plpgsql
set search_path from current
as $$
declare
  answered int;
begin
  with given as (
    select g.* from unnest(tokens, answers, errors, codes, hints) as g (token, answer, error, code, hint)
  ),
  written as (
    update pgembed.encode_request as r
    set answer = case when g.error is null then g.answer end,
      error = coalesce(g.error, case when g.answer is null then 'the worker gave no vector' end),
      error_code = g.code, error_hint = g.hint, answered_at = clock_timestamp()
    from given as g
    where r.token = g.token and r.claimed_by = answer_requests.claimer and r.answered_at is null
    returning r.cache_key, r.answer
  ),
  asked as (
    select w.cache_key, (array_agg(w.answer))[1] as answer, count(*) as times
    from written as w
    where w.answer is not null
    group by w.cache_key
  ),
  -- A text that is asked for once leaves its key only: most texts are, and would push out the others.
  kept as (
    insert into pgembed.encode_cache as c (cache_key, embedding)
    select a.cache_key, case when a.times > 1 or exists (select from pgembed.encode_cache as o where o.cache_key = a.cache_key) then a.answer end
    from asked as a
    order by a.cache_key
    on conflict (cache_key) do update set embedding = coalesce(excluded.embedding, c.embedding), encoded_at = now()
  )
  select count(*) into answered from written;
  return answered;
end
$$;
comment on function pgembed.answer_requests(int, uuid[], vector[], text[], text[], text[]) is
  'Answers requests that this claimer took, each with a vector or with error, SQLSTATE and hint; those that were abandoned or given to another worker are left out. Returns how many were answered. The second answer to a text goes into the cache.';

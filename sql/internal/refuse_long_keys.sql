create or replace function pgembed.refuse_long_keys(collection text, keys text[]) returns void
language sql
begin atomic
  insert into pgembed.failure (collection, key, error, attempts)
  select
    refuse_long_keys.collection,
    pgembed.queue_key(k.key) as short_key,
    format('the key has %s bytes, and at most 2000 fit into the queue: %s...', octet_length(k.key), left(k.key, 100)) as reason,
    -- Never tried, and not to be tried again.
    0 as attempts
  from unnest(refuse_long_keys.keys) as k (key)
  where octet_length(k.key) > 2000
  group by k.key
  on conflict (collection, key) do update
  set failed_at = now();
end;
comment on function pgembed.refuse_long_keys(text, text[]) is
  'Records as failures the rows whose keys are too long for the queue; pgembed.retry leaves them alone.';

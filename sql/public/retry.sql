create or replace function pgembed.retry(collection text) returns bigint
language plpgsql
set search_path from current
as $$
declare
  moved bigint;
begin
  perform pgembed.collection_named(retry.collection);
  perform pgembed.lock_queue(retry.collection);
  with again as (
    delete from pgembed.failure as f where f.collection = retry.collection and f.attempts > 0 returning f.collection, f.key
  )
  insert into pgembed.stale (collection, key, priority) select again.collection, again.key, 1 from again
  on conflict do nothing;
  get diagnostics moved = row_count;
  return moved;
end
$$;
comment on function pgembed.retry(text) is
  'Puts the failed rows of a collection back into the queue; returns how many.';

create or replace function pgembed.pause(collection text) returns void
language plpgsql
set search_path from current
as $$
begin
  perform pgembed.collection_named(pause.collection);
  update pgembed.collection as c set paused_at = coalesce(c.paused_at, now()) where c.name = pause.collection;
end
$$;
comment on function pgembed.pause(text) is
  'Stops the sync of a collection: nothing is claimed until pgembed.resume; searches and writers go on, and what changes waits.';

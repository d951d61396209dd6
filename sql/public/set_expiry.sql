create or replace function pgembed.set_expiry(collection text, expires text) returns void
language plpgsql
set search_path from current
as $$
declare
  changed pgembed.collection := pgembed.collection_named(set_expiry.collection);
begin
  perform pgembed.check_expiry(changed.source, set_expiry.expires);
  perform pgembed.lock_queue(changed.name);
  -- A writer who is under way compares the old columns: wait for it, and let none begin.
  execute format('lock table %s in share row exclusive mode', changed.source);
  update pgembed.collection as c set expires_column = set_expiry.expires where c.name = set_expiry.collection
  returning c.* into changed;
  perform pgembed.attach_triggers(changed);
  -- Rows that had expired by another column have no chunks.
  perform pgembed.mark_stale(changed.name);
end
$$;
comment on function pgembed.set_expiry(text, text) is
  'Names the column that says when a row leaves search; null lets rows stay. Rows that had left come back with the next sync.';

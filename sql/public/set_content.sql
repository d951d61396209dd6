create or replace function pgembed.set_content(collection text, content text[]) returns void
language plpgsql
set search_path from current
as $$
declare
  changed pgembed.collection := pgembed.collection_named(set_content.collection);
begin
  perform pgembed.check_content(changed.source, set_content.content);
  perform pgembed.lock_queue(changed.name);
  -- A writer who is under way captures the old columns: wait for it, and let none begin.
  execute format('lock table %s in share row exclusive mode', changed.source);
  update pgembed.collection as c set content_columns = set_content.content
  where c.name = set_content.collection
  returning c.* into changed;
  perform pgembed.check_source(changed);
  perform pgembed.attach_triggers(changed);
  perform pgembed.mark_stale(changed.name);
end
$$;
comment on function pgembed.set_content(text, text[]) is
  'Names the content columns of a collection anew, for instance after a rename; only chunks whose text differs are embedded again.';

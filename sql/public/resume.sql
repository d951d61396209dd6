create or replace function pgembed.resume(collection text) returns void
language plpgsql
set search_path from current
as $$
begin
  perform pgembed.collection_named(resume.collection);
  update pgembed.collection as c set paused_at = null where c.name = resume.collection;
end
$$;
comment on function pgembed.resume(text) is
  'Lets the sync of a paused collection go on.';

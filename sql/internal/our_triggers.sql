create or replace function pgembed.our_triggers(collection pgembed.collection) returns table (name name, kind int, enabled text)
language plpgsql stable
set search_path from current
as $$
declare
  -- The name of the collection is the first argument; each ends with a zero byte.
  wanted bytea := convert_to(collection.name, getdatabaseencoding()) || '\x00'::bytea;
begin
  return query select t.tgname, t.tgtype::int, t.tgenabled::text
  from pg_trigger as t
  where t.tgrelid = collection.source and t.tgparentid = 0 and t.tgfoid = 'pgembed.capture_changes()'::regprocedure
    and substring(t.tgargs from 1 for octet_length(wanted)) = wanted;
end
$$;
comment on function pgembed.our_triggers(pgembed.collection) is
  'The triggers by which changes of a collection''s source are noted.';

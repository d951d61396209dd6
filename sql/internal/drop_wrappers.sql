create or replace function pgembed.drop_wrappers(collection text) returns void
language plpgsql
set search_path from current
as $$
declare
  wrapper text;
begin
  for wrapper in
    select p.oid::regprocedure::text
    from pg_proc as p
    where p.pronamespace = 'pgembed'::regnamespace and p.proname in ('search_' || drop_wrappers.collection, 'rank_' || drop_wrappers.collection)
  loop
    execute format('drop function %s', wrapper);
  end loop;
end
$$;
comment on function pgembed.drop_wrappers(text) is
  'Removes the typed functions of a collection.';

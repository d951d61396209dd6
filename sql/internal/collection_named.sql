create or replace function pgembed.collection_named(name text) returns pgembed.collection
language plpgsql stable parallel safe
set search_path from current
as $$
declare
  found_collection pgembed.collection;
  existing text;
begin
  select c.* into found_collection from pgembed.collection as c where c.name = collection_named.name;
  if not found then
    select string_agg(quote_literal(c.name), ', ' order by c.name) into existing from pgembed.collection as c;
    raise exception using errcode = 'PGE01',
      message = format('there is no collection %L', collection_named.name),
      hint = coalesce('Collections are ' || existing || '.', 'Create one with pgembed.create_collection().');
  end if;
  return found_collection;
end
$$;
comment on function pgembed.collection_named(text) is
  'The collection of that name; PGE01 lists those that exist.';

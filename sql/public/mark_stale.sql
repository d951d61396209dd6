create or replace function pgembed.mark_stale(collection text) returns bigint
language plpgsql
set search_path from current
set datestyle = 'ISO, MDY'
set timezone = 'UTC'
set intervalstyle = 'postgres'
set bytea_output = 'hex'
set extra_float_digits = 1
as $$
declare
  found_collection pgembed.collection := pgembed.collection_named(collection);
  marked bigint;
begin
  perform pgembed.lock_queue(found_collection.name);
  perform pgembed.check_source(found_collection);
  execute format(
    'insert into pgembed.stale (collection, key) select $1, n.key from (select %s as key from %s as s) as n where octet_length(n.key) <= 2000
     on conflict (collection, key) do update
     set version = default, attempts = 0, claimed_by = null, leased_until = null',
    pgembed.key_text(found_collection.key_columns, 's'), found_collection.source
  ) using found_collection.name;
  get diagnostics marked = row_count;
  execute format(
    'select pgembed.refuse_long_keys($1, array_agg(n.key)) from (select %s as key from %s as s) as n where octet_length(n.key) > 2000',
    pgembed.key_text(found_collection.key_columns, 's'), found_collection.source
  ) using found_collection.name;
  return marked;
end
$$;
comment on function pgembed.mark_stale(text) is
  'Puts every source row of a collection into the queue; returns how many. Unchanged chunks keep their embedding.';

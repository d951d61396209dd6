create or replace function pgembed.build_index(collection text) returns boolean
language plpgsql
set search_path from current
as $$
declare
  found_collection pgembed.collection := pgembed.collection_named(collection);
begin
  -- Two that build at once would each make an index.
  perform pg_advisory_xact_lock(726102, hashtext(found_collection.name));
  if pgembed.has_hnsw(found_collection.name) then
    return false;
  end if;
  -- Now, because without an index a rewritten row costs least.
  perform pgembed.refresh(found_collection.name);
  execute format('create index on pgembed_data.%I using hnsw (embedding halfvec_cosine_ops)', found_collection.name);
  execute format('analyze pgembed_data.%I', found_collection.name);
  return true;
end
$$;
comment on function pgembed.build_index(text) is
  'Builds the HNSW index of a collection unless it exists; true when it was built. Cheapest after a bulk load; sync calls it.';

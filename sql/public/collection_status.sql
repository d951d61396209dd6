create or replace function pgembed.collection_status() returns table (
  name text,
  source text,
  encoder text,
  chunks bigint,
  stale bigint,
  failed bigint,
  indexed boolean
)
language plpgsql stable
set search_path from current
as $$
#variable_conflict use_column
declare
  item pgembed.collection;
begin
  for item in select c.* from pgembed.collection as c order by c.name loop
    name := item.name;
    source := item.source::text;
    encoder := item.encoder;
    execute format('select count(*) from pgembed_data.%I', item.name) into chunks;
    select count(*) into stale from pgembed.stale as t where t.collection = item.name;
    select count(*) into failed from pgembed.failure as f where f.collection = item.name;
    indexed := pgembed.has_hnsw(item.name);
    return next;
  end loop;
end
$$;
comment on function pgembed.collection_status() is
  'Every collection: its chunks, how many source rows are stale or failed, and whether the HNSW index exists.';

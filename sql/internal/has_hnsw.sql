create or replace function pgembed.has_hnsw(collection text) returns boolean
language sql stable parallel safe
begin atomic
  select exists (
    select
    from pg_catalog.pg_index as i
    join pg_catalog.pg_class as r on r.oid = i.indexrelid
    join pg_catalog.pg_am as m on m.oid = r.relam
    where i.indrelid = to_regclass(format('pgembed_data.%I', has_hnsw.collection)) and m.amname = 'hnsw' and i.indisvalid
  );
end;
comment on function pgembed.has_hnsw(text) is
  'Whether the side table of a collection has a valid HNSW index.';

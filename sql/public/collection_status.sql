create or replace function pgembed.collection_status() returns table (
  name text,
  source text,
  encoder text,
  chunks bigint,
  stale bigint,
  failed bigint,
  indexed boolean,
  oldest timestamptz,
  paused_at timestamptz
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
    select
      (select count(*) from pgembed.stale as t where t.collection = item.name)
        + (select coalesce(sum(c.row_count), 0) from pgembed.change as c where c.collection = item.name),
      least(
        (select min(t.enqueued_at) from pgembed.stale as t where t.collection = item.name),
        (select min(c.changed_at) from pgembed.change as c where c.collection = item.name))
    into stale, oldest;
    select count(*) into failed from pgembed.failure as f where f.collection = item.name;
    indexed := pgembed.has_hnsw(item.name);
    paused_at := item.paused_at;
    return next;
  end loop;
end
$$;
comment on function pgembed.collection_status() is
  'Every collection: its chunks, how many source rows are stale (one that changed several times counts so often until it is claimed) or failed, whether the HNSW index exists, since when the oldest waits, and whether sync is paused.';

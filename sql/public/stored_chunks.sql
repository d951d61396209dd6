create or replace function pgembed.stored_chunks(collection text) returns table (key text, present boolean, content text, numbers int[], hashes bytea[])
language plpgsql stable
set search_path from current
set datestyle = 'ISO, MDY'
set timezone = 'UTC'
set intervalstyle = 'postgres'
set bytea_output = 'hex'
set extra_float_digits = 1
as $$
#variable_conflict use_column
declare
  examined pgembed.collection := pgembed.collection_named(stored_chunks.collection);
begin
  perform pgembed.check_source(examined);
  return query execute format(
    'with waiting as materialized (
       select t.key from pgembed.stale as t where t.collection = $1
       union select k.key from pgembed.change as c cross join unnest(c.keys) as k (key) where c.collection = $1
       union select f.key from pgembed.failure as f where f.collection = $1)
     select coalesce(%1$s, d.key), s.pgembed_present is not null, s.pgembed_content, coalesce(d.numbers, ''{}''), coalesce(d.hashes, ''{}'')
     from (select r.*, true as pgembed_present, %2$s as pgembed_content from %3$s as r where %4$s) as s
     full join (
       select %5$s as key, array_agg(c.chunk_no order by c.chunk_no) as numbers, array_agg(c.content_hash order by c.chunk_no) as hashes
       from pgembed_data.%6$I as c
       group by 1
     ) as d on d.key = %1$s
     where not exists (select from waiting as w where w.key = pgembed.queue_key(coalesce(%1$s, d.key)))',
    pgembed.key_text(examined.key_columns, 's'),
    pgembed.content_text(examined.content_columns, 'r'),
    examined.source,
    coalesce(pgembed.unexpired(examined, 'r'), 'true'),
    pgembed.key_text(pgembed.side_key(examined), 'c'),
    examined.name
  ) using examined.name;
end
$$;
comment on function pgembed.stored_chunks(text) is
  'Every row of a collection that is said to be in step, neither stale nor failed: its text (present is false where the source has no such row, or it expired), and the numbers and hashes of its chunks. pgembed audit sync checks with it that nothing was lost.';

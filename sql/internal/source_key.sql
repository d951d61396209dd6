create or replace function pgembed.source_key(source regclass, wanted text[]) returns text[]
language plpgsql stable parallel safe
set search_path from current
as $$
declare
  found_key text[];
  relation pg_class;
begin
  select r.* into relation from pg_class as r where r.oid = source_key.source;
  if relation.relkind not in ('r', 'p') or source_key.source is null then
    raise exception using errcode = 'PGE05',
      message = format('%s is not a table', coalesce(source_key.source::text, 'null')),
      hint = 'Triggers and the foreign key need a table; for a view, use the table below it.';
  elsif relation.relpersistence <> 'p' then
    raise exception using errcode = 'PGE05',
      message = format('%s is a temporary or unlogged table', source_key.source),
      hint = 'The foreign key needs one that lasts: alter table ... set logged, or copy the rows.';
  elsif relation.relispartition then
    raise exception using errcode = 'PGE05',
      message = format('%s is a partition', source_key.source),
      hint = 'Rows that are written through its parent would go unnoticed: make the collection on the partitioned table.';
  end if;
  if exists (
    select from pg_inherits as i join pg_class as r on r.oid = i.inhparent
    where i.inhparent = source_key.source and r.relkind = 'r'
  ) then
    raise exception using errcode = 'PGE05',
      message = format('%s has child tables by inheritance', source_key.source),
      hint = 'No key spans them. Make a collection of each child, or turn the parent into a partitioned table.';
  end if;
  select array_agg(a.attname::text order by k.position) into found_key
  from pg_index as i
  cross join unnest(i.indkey[0:i.indnkeyatts - 1]) with ordinality as k (attnum, position)
  join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum
  where i.indrelid = source_key.source and i.indisunique and i.indimmediate and i.indisvalid
    and i.indpred is null and i.indexprs is null
    and case when source_key.wanted is null then i.indisprimary else true end
  group by i.indexrelid
  having source_key.wanted is null
    or (array_agg(a.attname::text) @> source_key.wanted and array_agg(a.attname::text) <@ source_key.wanted
      and count(*) = cardinality(source_key.wanted) and bool_and(a.attnotnull))
  limit 1;
  if found_key is null and source_key.wanted is null then
    raise exception using errcode = 'PGE05',
      message = format('%s has no primary key', source_key.source),
      hint = format('Add one (alter table %s add primary key ...), or name columns with a unique index, all not null: key => ''{...}''.', source_key.source);
  elsif found_key is null then
    raise exception using errcode = 'PGE05',
      message = format('%s has no unique index over exactly %s, all not null', source_key.source, source_key.wanted),
      hint = format('Its columns are %s.', pgembed.column_names(source_key.source));
  end if;
  return coalesce(source_key.wanted, found_key);
end
$$;
comment on function pgembed.source_key(regclass, text[]) is
  'Key columns of a source: its primary key, or the wanted columns where a unique index covers them; PGE05 otherwise.';

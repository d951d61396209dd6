create or replace function pgembed.check_source(collection pgembed.collection) returns void
language plpgsql stable parallel safe
set search_path from current
as $$
declare
  lost text;
  lost_key boolean;
begin
  if not exists (select from pg_class as r where r.oid = collection.source) then
    raise exception using errcode = 'PGE05',
      message = format('the source table of collection %L is gone', collection.name),
      hint = format('Remove the collection: select pgembed.drop_collection(%L);', collection.name);
  end if;
  select string_agg(format('%I', wanted.name), ', '), bool_or(wanted.name = any (collection.key_columns)) into lost, lost_key
  from unnest(collection.key_columns || collection.content_columns || collection.expires_column) as wanted (name)
  where wanted.name is not null and not exists (
    select from pg_attribute as a
    where a.attrelid = collection.source and a.attname = wanted.name and a.attnum > 0 and not a.attisdropped
  );
  if lost is not null then
    raise exception using errcode = 'PGE05',
      message = format('%s has no column %s, which collection %L reads', collection.source, lost, collection.name),
      hint = format(
        'Its columns are %s. ' || case
          when lost_key then 'Give the key its name back, then: select pgembed.mark_stale(%L); or drop the collection and create it anew.'
          when lost = quote_ident(collection.expires_column) then 'Name the column to expire by anew: select pgembed.set_expiry(%L, ''...'');'
          else 'Name the content anew: select pgembed.set_content(%L, ''{...}'');'
        end,
        pgembed.column_names(collection.source), collection.name);
  end if;
end
$$;
comment on function pgembed.check_source(pgembed.collection) is
  'Raises PGE05 when the source table, or a column that the collection reads, no longer exists.';

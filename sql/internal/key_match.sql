create or replace function pgembed.key_match(collection pgembed.collection, columns text[], alias text, key text) returns text
language sql stable parallel safe
begin atomic
  select string_agg(
    format('%I.%I = (%s)::%s', key_match.alias, c.side_name,
      case when cardinality(key_match.columns) = 1 then key_match.key
        else format('(%s)::jsonb ->> %s', key_match.key, c.position - 1) end,
      format_type(a.atttypid, -1)),
    ' and ' order by c.position)
  from unnest(key_match.columns, (key_match.collection).key_columns) with ordinality as c (side_name, source_name, position)
  join pg_catalog.pg_attribute as a
    on a.attrelid = (key_match.collection).source and a.attname = c.source_name and not a.attisdropped;
end;
comment on function pgembed.key_match(pgembed.collection, text[], text, text) is
  'SQL condition that the key columns of a table, under these names, are the key that an SQL expression gives as text.';

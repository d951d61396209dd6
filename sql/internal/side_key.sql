create or replace function pgembed.side_key(collection pgembed.collection) returns text[]
language sql stable parallel safe
begin atomic
  select array_agg(pgembed.side_column(c.name) order by c.position)
  from unnest((side_key.collection).key_columns) with ordinality as c (name, position);
end;
comment on function pgembed.side_key(pgembed.collection) is
  'Key columns of a collection as they are named in its side table.';

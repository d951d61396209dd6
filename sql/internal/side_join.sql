create or replace function pgembed.side_join(collection pgembed.collection, side text, source text) returns text
language sql stable parallel safe
begin atomic
  select string_agg(
    format('%I.%I = %I.%I', side_join.side, pgembed.side_column(c.name), side_join.source, c.name),
    ' and ' order by c.position)
  from unnest((side_join.collection).key_columns) with ordinality as c (name, position);
end;
comment on function pgembed.side_join(pgembed.collection, text, text) is
  'SQL condition that joins the side table of a collection to its source, under these aliases.';

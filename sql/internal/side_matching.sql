create or replace function pgembed.side_matching(collection pgembed.collection, predicate text) returns text
language sql stable parallel safe
return case
  when side_matching.predicate is null then ''
  else format('join %s as s on %s where %s', (side_matching.collection).source, pgembed.side_join(side_matching.collection, 'd', 's'), side_matching.predicate)
end;
comment on function pgembed.side_matching(pgembed.collection, text) is
  'Joins the side table (d) to its source (s) under a condition; nothing where there is no condition.';

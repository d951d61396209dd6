create or replace function pgembed.candidate_join(collection pgembed.collection) returns text
language sql stable parallel safe
begin atomic
  select string_agg(format('f.pgembed_key_%s = s.%I', c.position, c.name), ' and ' order by c.position)
  from unnest((candidate_join.collection).key_columns) with ordinality as c (name, position);
end;
comment on function pgembed.candidate_join(pgembed.collection) is
  'SQL condition that joins scored candidates (f) to the source (s).';

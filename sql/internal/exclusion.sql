create or replace function pgembed.exclusion(
  collection pgembed.collection,
  query vector,
  exclude vector[],
  out direction vector,
  out nearness float8
)
language plpgsql stable
set search_path from current
as $$
declare
  basis vector[] := '{}';
  unwanted vector;
  part vector;
  side regclass := to_regclass(format('pgembed_data.%I', collection.name));
  -- How much of the unwanted directions is taken out of the query: all of it loses wanted rows that are near them.
  removed constant float8 := 0.7;
begin
  direction := l2_normalize(exclusion.query);
  -- Gram and Schmidt: an orthonormal basis of what is not wanted (Widdows 2003, "Orthogonal negation in vector spaces").
  foreach unwanted in array exclusion.exclude loop
    foreach part in array basis loop
      unwanted := unwanted - pgembed.scaled(part, inner_product(unwanted, part));
    end loop;
    if vector_norm(unwanted) > 1e-4 then
      basis := basis || l2_normalize(unwanted);
    end if;
  end loop;
  foreach part in array basis loop
    direction := direction - pgembed.scaled(part, removed * inner_product(l2_normalize(exclusion.query), part));
  end loop;
  if vector_norm(direction) < 1e-4 then
    direction := exclusion.query;
  end if;
  direction := l2_normalize(direction);
  -- What is nearer to an unwanted text than four fifths of the collection is penalised; a sample tells, the same each time.
  execute format(
    'select percentile_cont(0.8) within group (order by (select max(1 - (d.embedding <=> u.unwanted::halfvec)) from unnest($1) as u (unwanted)))
     from (select t.embedding from %s as t tablesample system (%s) repeatable (0) limit 2000) as d',
    side, least(100, 100 * 2000 / greatest((select r.reltuples from pg_class as r where r.oid = side), 1)::float8)
  ) into nearness using exclusion.exclude;
  nearness := coalesce(nearness, 1);
end
$$;
comment on function pgembed.exclusion(pgembed.collection, vector, vector[]) is
  'A query turned away from what is not wanted, and the similarity to it from which on a row is penalised.';

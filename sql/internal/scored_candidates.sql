create or replace function pgembed.scored_candidates(collection pgembed.collection) returns text
language plpgsql stable parallel safe
set search_path from current
as $$
begin
  -- $1, $2: keys of the dense and of the lexical arm; $3: query; $4: words as a sparse vector; $5: unwanted vectors; $6: nearness.
  return (
    select format(
      'select c.key, c.dense_rank, c.lexical_rank, least(c.dense_rank, c.lexical_rank) <= 100 as is_first, best.*
       from (
         select u.key, min(u.dense_rank) as dense_rank, min(u.lexical_rank) as lexical_rank
         from (
           select f.key, f.place as dense_rank, null::bigint as lexical_rank from unnest($1) with ordinality as f (key, place)
           union all
           select f.key, null, f.place from unnest($2) with ordinality as f (key, place)
         ) as u
         group by u.key
       ) as c
       cross join lateral (
         select %1$s, d.chunk_no, d.content,
           1 - (d.embedding <=> $3)
             - case when $5 is null then 0 else greatest((select max(1 - (d.embedding <=> n.unwanted::halfvec)) from unnest($5) as n (unwanted)) - $6, 0) end as dense,
           case when $4 is not null then max(coalesce(-(d.bm25 <#> $4), 0)) over () end as lexical
         from pgembed_data.%2$I as d
         where %3$s
         order by dense desc, d.chunk_no
         limit 1
       ) as best',
      string_agg(format('d.%I as pgembed_key_%s', k.name, k.position), ', ' order by k.position),
      (scored_candidates.collection).name,
      pgembed.key_match(scored_candidates.collection, pgembed.side_key(scored_candidates.collection), 'd', 'c.key')
    )
    from unnest(pgembed.side_key(scored_candidates.collection)) with ordinality as k (name, position)
  );
end
$$;
comment on function pgembed.scored_candidates(pgembed.collection) is
  'SQL query that scores the rows of both arms exactly by either arm, whichever of them found the row.';

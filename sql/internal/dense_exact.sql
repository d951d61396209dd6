create or replace function pgembed.dense_exact(
  collection pgembed.collection,
  query halfvec,
  k int,
  predicate text,
  out keys text[],
  out scores float8[]
)
language plpgsql stable
set search_path from current
as $$
declare
  side_key text[] := pgembed.side_key(collection);
begin
  -- "+ 0" keeps the order exact: no index gives it.
  execute format(
    'with nearest as (
       select %1$s, min((d.embedding <=> $1) + 0) as pgembed_distance
       from pgembed_data.%2$I as d %3$s
       group by %1$s
       order by pgembed_distance, %1$s
       limit $2)
     select array_agg(%4$s order by d.pgembed_distance, %1$s), array_agg(1 - d.pgembed_distance order by d.pgembed_distance, %1$s) from nearest as d',
    (select string_agg(format('d.%I', c.name), ', ' order by c.position) from unnest(side_key) with ordinality as c (name, position)),
    collection.name,
    pgembed.side_matching(collection, predicate),
    pgembed.key_text(side_key, 'd', settled => false)
  ) into keys, scores using query, k;
  keys := coalesce(keys, '{}');
  scores := coalesce(scores, '{}');
end
$$;
comment on function pgembed.dense_exact(pgembed.collection, halfvec, int, text) is
  'Keys of the k nearest matching rows, by their best chunk, and their cosine similarities: every matching chunk is compared.';

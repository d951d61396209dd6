create or replace function pgembed.dense_exact(
  collection pgembed.collection,
  query halfvec,
  k int,
  predicate text,
  bound bigint,
  out keys text[],
  out scores float8[],
  out matched bigint
)
language plpgsql stable
set search_path from current
as $$
declare
  side_key text[] := pgembed.side_key(collection);
begin
  -- "+ 0" keeps the order exact: no index gives it. The bound makes one pass of counting and comparing.
  execute format(
    'with matching as (
       select %1$s, (d.embedding <=> $1) + 0 as pgembed_distance from pgembed_data.%2$I as d %3$s limit $3),
     nearest as (
       select %1$s, 1 - min(d.pgembed_distance) as pgembed_score, sum(count(*)) over () as pgembed_matched
       from matching as d
       group by %1$s
       order by pgembed_score desc, %1$s
       limit $2)
     select array_agg(%4$s order by d.pgembed_score desc, %1$s), array_agg(d.pgembed_score order by d.pgembed_score desc, %1$s), max(d.pgembed_matched)
     from nearest as d',
    (select string_agg(format('d.%I', c.name), ', ' order by c.position) from unnest(side_key) with ordinality as c (name, position)),
    collection.name,
    pgembed.side_matching(collection, predicate),
    pgembed.key_text(side_key, 'd', settled => false)
  ) into keys, scores, matched using query, k, bound;
  keys := coalesce(keys, '{}');
  scores := coalesce(scores, '{}');
  matched := coalesce(matched, 0);
end
$$;
comment on function pgembed.dense_exact(pgembed.collection, halfvec, int, text, bigint) is
  'Keys of the k nearest matching rows, by their best chunk, and their cosine similarities: every matching chunk is compared. With a bound it stops after so many chunks, and means nothing if it got there.';

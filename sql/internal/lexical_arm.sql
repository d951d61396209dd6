create or replace function pgembed.lexical_arm(
  collection pgembed.collection,
  words tsquery,
  k int,
  predicate text
) returns text[]
language plpgsql stable
set search_path from current
as $$
declare
  side_key text[] := pgembed.side_key(collection);
  keys text[];
begin
  execute format(
    'with best as (
       select %1$s, max(ts_rank(d.lexemes, $1)) as pgembed_score
       from pgembed_data.%2$I as d %3$s %5$s d.lexemes @@ $1
       group by %1$s
       order by pgembed_score desc, %1$s
       limit $2)
     select array_agg(%4$s) from best as d',
    (select string_agg(format('d.%I', c.name), ', ' order by c.position) from unnest(side_key) with ordinality as c (name, position)),
    collection.name,
    pgembed.side_matching(collection, predicate),
    pgembed.key_text(side_key, 'd', settled => false),
    case when predicate is null then 'where' else 'and' end
  ) into keys using words, k;
  return coalesce(keys, '{}');
end
$$;
comment on function pgembed.lexical_arm(pgembed.collection, tsquery, int, text) is
  'Keys of the k matching rows that rank highest by ts_rank, by their best chunk.';

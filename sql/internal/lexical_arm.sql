create or replace function pgembed.lexical_arm(
  collection pgembed.collection,
  words text,
  k int,
  predicate text,
  out keys text[],
  out scores float8[],
  out detail text
)
language plpgsql stable
set search_path from current
as $$
declare
  side_key text[] := pgembed.side_key(collection);
  query sparsevec := pgembed.lexical_vector(collection, lexical_arm.words);
  lexemes text[];
  -- What the terms from each one on can add at most: weight times (k1 + 1), the limit of the saturated frequency.
  bounds float8[];
  essential int;
  columns text;
begin
  keys := '{}';
  scores := '{}';
  select
    array_agg(pgembed.quoted_lexeme(b.lexeme) order by b.place), array_agg(b.bound order by b.place),
    -- The first pass looks at rows with the rarest words, enough of them to fill k.
    least(1 + count(*) filter (where b.documents < 10.0 * lexical_arm.k), count(*))
  into lexemes, bounds, essential
  from (
    select
      t.lexeme,
      row_number() over rarest as place,
      sum(t.documents) over rarest as documents,
      sum(2.2 * t.weight) over (rarest rows between current row and unbounded following) as bound
    from pgembed.lexical_terms(collection, lexical_arm.words) as t
    window rarest as (order by t.documents, t.lexeme)
  ) as b;
  if lexemes is null then
    detail := 'no word besides stop words';
    return;
  end if;
  columns := (select string_agg(format('d.%I', c.name), ', ' order by c.position) from unnest(side_key) with ordinality as c (name, position));
  -- MaxScore (Turtle and Flood 1995): rows without any of the rarest words are left out once what the others can
  -- add is no more than the k-th score. So the first pass needs few rows, and the second is exact.
  loop
    execute format(
      'with best as (
         select %1$s, max(coalesce(-(d.bm25 <#> $1), 0) + 0) as pgembed_score
         from pgembed_data.%2$I as d %3$s %5$s d.lexemes @@ $2
         group by %1$s
         order by pgembed_score desc, %1$s
         limit $3)
       select coalesce(array_agg(%4$s order by d.pgembed_score desc, %1$s), ''{}''),
         coalesce(array_agg(d.pgembed_score order by d.pgembed_score desc, %1$s), ''{}'')
       from best as d',
      columns,
      collection.name,
      pgembed.side_matching(collection, predicate),
      pgembed.key_text(side_key, 'd', settled => false),
      case when predicate is null then 'where' else 'and' end
    ) into keys, scores using query, array_to_string(lexemes[:essential], ' | ')::tsquery, lexical_arm.k;
    exit when essential = cardinality(lexemes) or cardinality(scores) = lexical_arm.k and scores[lexical_arm.k] >= bounds[essential + 1];
    essential := case
      when cardinality(scores) < lexical_arm.k then cardinality(lexemes)
      else (select count(*) from unnest(bounds) as b (bound) where b.bound > scores[lexical_arm.k])
    end;
  end loop;
  detail := format('rows with any of the %s rarest of %s words', essential, cardinality(lexemes));
end
$$;
comment on function pgembed.lexical_arm(pgembed.collection, text, int, text) is
  'Keys and BM25 scores of the k matching rows that rank highest, by their best chunk: exactly those, ties aside.';

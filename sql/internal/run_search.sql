create or replace function pgembed.run_search(
  collection text,
  query vector,
  k int,
  filter jsonb,
  hybrid boolean,
  query_text text,
  lexical_weight float8,
  fusion text,
  exclude vector[],
  min_score float8,
  skip int,
  after jsonb,
  columns text[],
  group_by text,
  per_group int,
  out hits pgembed.hit[],
  out trace jsonb
)
-- Stable: every query below sees the rows of one snapshot, so none vanishes between two of them.
language plpgsql stable
set search_path from current
-- A cursor holds scores: all of their digits, whatever the session shows.
set extra_float_digits = 1
as $$
declare
  searched pgembed.collection := pgembed.collection_named(run_search.collection);
  direction vector := pgembed.checked_query(searched, run_search.query);
  unwanted vector[] := nullif(run_search.exclude, '{}');
  turned record;
  nearness float8;
  planned record;
  dense record;
  words sparsevec;
  lexical_keys text[];
  lexical_scores float8[];
  lexical_how text;
  cut boolean;
  rows_before int;
  needed bigint;
  depth bigint := case when run_search.hybrid then 100 else 15 end;
  kind text;
  weight float8;
  spread float8[];
  keys text[];
  statement text;
  passes int := 0;
  candidates bigint;
begin
  perform pgembed.check_search(
    searched, run_search.k, run_search.hybrid, run_search.query_text, run_search.lexical_weight, run_search.fusion,
    run_search.skip, run_search.after, run_search.columns, run_search.group_by, run_search.per_group);
  perform pgembed.checked_query(searched, u.unwanted, 'exclude') from unnest(unwanted) as u (unwanted);
  -- Of length 1, because half precision takes numbers from 6e-8 to 65504 only.
  unwanted := (select array_agg(l2_normalize(u.unwanted)) from unnest(unwanted) as u (unwanted));
  rows_before := coalesce((run_search.after ->> 0)::int, run_search.skip);
  needed := least(rows_before::bigint + run_search.k, 1000000000);
  if unwanted is not null then
    needed := least(5 * needed, 1000000000);
  end if;
  -- In steps, so that neighbouring pages see the same candidates.
  while depth < 1.5 * needed loop
    depth := 4 * depth;
  end loop;
  select p.* into planned
  from pgembed.plan_rows(searched, greatest(needed, case when run_search.hybrid then 67 else 0 end)::int, run_search.filter) as p;
  trace := jsonb_build_object('predicate', planned.predicate, 'estimated', planned.estimated, 'threshold', planned.threshold, 'why', planned.why);
  hits := '{}';
  if run_search.k = 0 then
    return;
  end if;
  if unwanted is not null then
    select e.* into turned from pgembed.exclusion(searched, direction, unwanted) as e;
    direction := turned.direction;
    nearness := turned.nearness;
    trace := trace || jsonb_build_object('exclude_nearness', nearness);
  end if;
  direction := l2_normalize(direction);
  if run_search.hybrid then
    words := pgembed.lexical_vector(searched, run_search.query_text);
    select coalesce(run_search.fusion, f.kind, 'zscore'), coalesce(run_search.lexical_weight, f.lexical_weight, 0.3)
    into kind, weight
    from (select) as always
    left join pgembed.fusion as f on f.collection = searched.name;
  end if;
  -- Where nothing changes their order any more, only this page's rows are looked up.
  cut := not run_search.hybrid and unwanted is null and run_search.group_by is null and run_search.after is null;
  statement := pgembed.page_statement(searched, run_search.hybrid, run_search.columns, run_search.group_by);
  loop
    passes := passes + 1;
    depth := least(depth, 2000000000);
    select a.* into dense
    from pgembed.dense_arm(searched, direction::halfvec, least(needed, depth)::int, depth::int, planned) as a;
    keys := case when cut then dense.keys[least(run_search.skip + 1::bigint, 2000000000)::int:least(run_search.skip + run_search.k::bigint, 2000000000)::int] else dense.keys end;
    if run_search.hybrid then
      select a.keys, a.scores, a.detail into lexical_keys, lexical_scores, lexical_how
      from pgembed.lexical_arm(searched, run_search.query_text, depth::int, planned.predicate) as a;
    end if;
    execute statement into hits, spread, candidates
    using keys, lexical_keys, direction::halfvec, words, unwanted, nearness, run_search.min_score, run_search.k, run_search.after,
      case when cut then 0 else run_search.skip end, rows_before, run_search.per_group, kind, weight;
    exit when cardinality(hits) >= run_search.k
      or dense.complete and (not run_search.hybrid or cardinality(lexical_keys) < depth)
      -- No row further down can reach that score.
      or run_search.min_score > case
        when run_search.hybrid then pgembed.fused_score(
          kind, weight, dense.scores[cardinality(dense.scores)], coalesce(lexical_scores[depth], 0), depth, depth, spread)
        else dense.scores[cardinality(dense.scores)]
      end
      or depth = 2000000000;
    depth := case dense.plan when 'exact' then 16 else 4 end * depth;
    needed := greatest(needed, depth);
  end loop;
  trace := trace || jsonb_build_object(
    'plan', dense.plan, 'how', dense.detail, 'passes', passes, 'depth', depth, 'dense_rows', cardinality(dense.keys), 'candidates', candidates);
  if run_search.hybrid then
    trace := trace || jsonb_build_object(
      'lexical_rows', cardinality(lexical_keys), 'lexical_how', lexical_how, 'fusion', kind, 'lexical_weight', weight, 'spread', to_jsonb(spread));
  end if;
end
$$;
comment on function pgembed.run_search(
  text, vector, int, jsonb, boolean, text, float8, text, vector[], float8, int, jsonb, text[], text, int
) is
  'The search that pgembed.search returns the hits of and pgembed.explain_search tells the course of.';

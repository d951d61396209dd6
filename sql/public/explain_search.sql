create or replace function pgembed.explain_search(
  collection text,
  query vector,
  k int default 10,
  filter jsonb default null,
  hybrid boolean default false,
  query_text text default null,
  lexical_weight float8 default null,
  fusion text default null,
  exclude vector[] default null,
  min_score float8 default null,
  "offset" int default 0,
  after jsonb default null,
  columns text[] default null,
  group_by text default null,
  per_group int default 1,
  base vector default null,
  mode text default 'soft',
  buffers boolean default false
) returns table (step int, name text, detail text, data jsonb)
language plpgsql
set search_path from current
as $$
#variable_conflict use_column
declare
  searched pgembed.collection := pgembed.collection_named(explain_search.collection);
  run record;
  explained json;
begin
  step := 0;
  if explain_search.base is not null then
    step := step + 1;
    name := 'route';
    select string_agg(format('%s %s', r.expert, round(r.weight::numeric, 2)), ', ' order by r.weight desc, r.expert collate "C"),
      jsonb_object_agg(r.expert, jsonb_build_object('weight', r.weight, 'score', r.score))
    into detail, data
    from pgembed.route(searched.encoder, explain_search.base, explain_search.mode) as r;
    detail := format('mode %s: %s', explain_search.mode, detail);
    return next;
  end if;
  select r.* into run
  from pgembed.run_search(
    explain_search.collection, explain_search.query, explain_search.k, explain_search.filter, coalesce(explain_search.hybrid, false), explain_search.query_text,
    explain_search.lexical_weight, explain_search.fusion, explain_search.exclude, explain_search.min_score, explain_search."offset",
    explain_search.after, explain_search.columns, explain_search.group_by, explain_search.per_group
  ) as r;
  step := step + 1;
  name := 'filter';
  detail := coalesce(run.trace ->> 'predicate', 'none');
  data := jsonb_build_object('predicate', run.trace -> 'predicate');
  return next;
  step := step + 1;
  name := 'plan';
  detail := format('%s: %s', coalesce(run.trace ->> 'plan', 'nothing to find'), run.trace ->> 'why');
  data := jsonb_build_object(
    'plan', run.trace -> 'plan', 'estimated', run.trace -> 'estimated', 'threshold', run.trace -> 'threshold', 'why', run.trace -> 'why');
  return next;
  if run.trace ? 'exclude_nearness' then
    step := step + 1;
    name := 'exclude';
    detail := format('penalised above a similarity of %s to what is not wanted', round((run.trace ->> 'exclude_nearness')::numeric, 3));
    data := jsonb_build_object('nearness', run.trace -> 'exclude_nearness');
    return next;
  end if;
  if run.trace ? 'plan' then
    step := step + 1;
    name := 'dense arm';
    detail := format('%s rows: %s%s', run.trace ->> 'dense_rows', run.trace ->> 'how',
      case when (run.trace ->> 'passes')::int > 1 then format('; pass %s of %s, each deeper', run.trace ->> 'passes', run.trace ->> 'passes') else '' end);
    data := jsonb_build_object('rows', run.trace -> 'dense_rows', 'depth', run.trace -> 'depth', 'passes', run.trace -> 'passes');
    return next;
  end if;
  if run.trace ? 'fusion' then
    step := step + 1;
    name := 'lexical arm';
    detail := format('%s rows: %s', run.trace ->> 'lexical_rows', run.trace ->> 'lexical_how');
    data := jsonb_build_object('rows', run.trace -> 'lexical_rows', 'depth', run.trace -> 'depth');
    return next;
    step := step + 1;
    name := 'fusion';
    detail := format('%s, lexical weight %s, over %s candidates', run.trace ->> 'fusion', run.trace ->> 'lexical_weight', run.trace ->> 'candidates');
    data := jsonb_build_object(
      'kind', run.trace -> 'fusion', 'lexical_weight', run.trace -> 'lexical_weight', 'candidates', run.trace -> 'candidates', 'spread', run.trace -> 'spread');
    return next;
  end if;
  if explain_search.buffers then
    execute 'explain (analyze, buffers, timing off, summary off, format json)
      select h.* from pgembed.search($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) as h'
    into explained
    using explain_search.collection, explain_search.query, explain_search.k, explain_search.filter, explain_search.hybrid, explain_search.query_text,
      explain_search.lexical_weight, explain_search.fusion, explain_search.exclude, explain_search.min_score, explain_search."offset",
      explain_search.after, explain_search.columns, explain_search.group_by, explain_search.per_group;
    step := step + 1;
    name := 'buffers';
    data := jsonb_build_object('hit', explained -> 0 -> 'Plan' -> 'Shared Hit Blocks', 'read', explained -> 0 -> 'Plan' -> 'Shared Read Blocks');
    detail := format('%s pages of shared memory, %s of them read into it, when run again', (data ->> 'hit')::bigint + (data ->> 'read')::bigint, data ->> 'read');
    return next;
  end if;
  step := step + 1;
  name := 'hits';
  select format('%s rows%s', count(*), string_agg(format('; %s. %s %s%s', h.rank, h.key, round(h.score::numeric, 3),
      case when h.lexical_score is not null then format(' (dense %s, lexical %s)', round(h.dense_score::numeric, 3), round(h.lexical_score::numeric, 3)) else '' end),
      '' order by h.rank) filter (where h.rank <= run.hits[1].rank + 2)),
    coalesce(jsonb_agg(jsonb_build_object('rank', h.rank, 'key', h.key, 'score', h.score, 'dense_score', h.dense_score, 'lexical_score', h.lexical_score) order by h.rank), '[]')
  into detail, data
  from unnest(run.hits) as h;
  return next;
end
$$;
comment on function pgembed.explain_search(
  text, vector, int, jsonb, boolean, text, float8, text, vector[], float8, int, jsonb, text[], text, int, vector, text, boolean
) is
  'Runs a search and tells its course, a row a step, as text and as json: route (of the base embedding, where given), filter, plan and why, rows of each arm, fusion, buffers if asked, and the scores of the hits. Arguments are those of pgembed.search.';

create or replace function pgembed.explain_search(
  collection text,
  query text,
  k int default 10,
  filter jsonb default null,
  mode text default 'soft',
  hybrid boolean default false,
  lexical_weight float8 default null,
  fusion text default null,
  exclude text[] default null,
  min_score float8 default null,
  "offset" int default 0,
  after jsonb default null,
  columns text[] default null,
  group_by text default null,
  per_group int default 1,
  fresh boolean default false,
  buffers boolean default false
) returns table (step int, name text, detail text, data jsonb)
language plpgsql
set search_path from current
as $$
#variable_conflict use_column
declare
  unwanted vector[] := array(select pgembed.encode(explain_search.collection, u.text, 'base') from unnest(explain_search.exclude) as u (text));
  started timestamptz := clock_timestamp();
  encoded record := pgembed.query_vector(explain_search.collection, explain_search.query, explain_search.mode);
  milliseconds numeric := round(1000 * extract(epoch from clock_timestamp() - started), 3);
  memo text[] := array[current_setting('pgembed.memo_key', true), current_setting('pgembed.memo_vector', true)];
  base vector;
begin
  step := 1;
  name := 'encode';
  detail := format('from %s in %s ms', case encoded.source when 'memo' then 'the memo of this session' when 'cache' then 'the cache' else 'a worker' end, milliseconds);
  data := jsonb_build_object('source', encoded.source, 'ms', milliseconds);
  return next;
  base := pgembed.encode(explain_search.collection, explain_search.query, 'base');
  -- The search to come is for the routed vector.
  perform set_config('pgembed.memo_key', memo[1], false), set_config('pgembed.memo_vector', memo[2], false);
  if explain_search.fresh then
    perform pgembed.wait_fresh(explain_search.collection);
  end if;
  return query select e.step + 1, e.name, e.detail, e.data
  from pgembed.explain_search(
    explain_search.collection, encoded.embedding, explain_search.k, explain_search.filter, explain_search.hybrid, explain_search.query,
    explain_search.lexical_weight, explain_search.fusion, unwanted, explain_search.min_score, explain_search."offset", explain_search.after,
    explain_search.columns, explain_search.group_by, explain_search.per_group, base, explain_search.mode, explain_search.buffers
  ) as e;
end
$$;
comment on function pgembed.explain_search(
  text, text, int, jsonb, text, boolean, float8, text, text[], float8, int, jsonb, text[], text, int, boolean, boolean
) is
  'The same for a query text, with where its vector came from: the memo of this session, the cache, or a worker.';

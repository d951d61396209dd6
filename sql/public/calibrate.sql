create or replace function pgembed.calibrate(
  collection text,
  seconds float8 default 5
) returns table (name text, unit text, before float8, after float8, note text)
language plpgsql
set search_path from current
as $$
#variable_conflict use_column
declare
  measured pgembed.collection := pgembed.collection_named(calibrate.collection);
  deadline timestamptz;
  chunks float8;
  queries vector[];
  query halfvec;
  rows tid[];
  few text;
  many text;
  started timestamptz;
  few_matched bigint;
  many_matched bigint;
  index_times float8[] := '{}';
  exact_times float8[] := '{}';
  short_time float8;
  long_time float8;
  exact_row float8;
  index_tuple float8;
  plausible float8;
  thresholds bigint[];
  near text;
  scan text := coalesce(current_setting('hnsw.iterative_scan', true), 'off');
  ef_before text := coalesce(current_setting('hnsw.ef_search', true), '40');
  seqscan text := current_setting('enable_seqscan');
begin
  if calibrate.seconds is null or calibrate.seconds <= 0 or calibrate.seconds > 3600 then
    raise exception using errcode = 'PGE03',
      message = format('seconds is %s; it is the time that measuring may take, above 0 and at most 3600', coalesce(calibrate.seconds::text, 'null'));
  end if;
  perform pgembed.check_source(measured);
  select greatest(r.reltuples, 0) into chunks from pg_class as r where r.oid = to_regclass(format('pgembed_data.%I', measured.name));
  if not pgembed.has_hnsw(measured.name) or chunks < 3000 then
    raise exception using errcode = 'PGE03',
      message = format('collection %L cannot be calibrated with: it has %s chunks and %s index', measured.name, chunks,
        case when pgembed.has_hnsw(measured.name) then 'an' else 'no' end),
      hint = 'Take one of 3000 chunks or more whose first sync has built its index; after a bulk load run analyze.';
  end if;
  deadline := clock_timestamp() + make_interval(secs => calibrate.seconds);
  -- Rows of many pages, in no order, as those are that a filter leaves.
  execute format(
    'select array_agg(t.embedding::vector) from (
       select t.embedding from pgembed_data.%I as t tablesample system (%s) order by md5(t.ctid::text) limit 31) as t',
    measured.name, least(100, 100 * 3000 / chunks)) into queries;
  execute format(
    'select array_agg(t.place) from (
       select t.ctid as place from %s as t tablesample system (%s) order by md5(t.ctid::text) limit 1200) as t',
    measured.source, (select least(100, 100 * 50000 / greatest(r.reltuples, 1)) from pg_class as r where r.oid = measured.source)) into rows;
  if not coalesce(cardinality(queries) > 3 and cardinality(rows) > 5, false) then
    raise exception using errcode = 'PGE03',
      message = format('collection %L cannot be calibrated with: samples of its rows are empty', measured.name),
      hint = format('The statistics are out of date; run: analyze %s, pgembed_data.%I;', measured.source, measured.name);
  end if;
  few := format('s.ctid = any (%L::tid[])', rows[:cardinality(rows) / 6]);
  many := format('s.ctid = any (%L::tid[])', rows);
  near := format('select count(*) from (select from pgembed_data.%I as d order by d.embedding <=> $1 limit $2) as d', measured.name);
  -- What two runs of different sizes differ by is free of what every search costs. The first query warms the caches.
  foreach query in array queries loop
    exit when cardinality(exact_times) > 3 and clock_timestamp() > deadline;
    -- On a small table the planner would rather sort it than read so much of the index.
    perform
      set_config('enable_seqscan', 'off', true),
      set_config('hnsw.iterative_scan', 'relaxed_order', true),
      set_config('hnsw.ef_search', '100', true);
    started := clock_timestamp();
    execute near using query, 200;
    short_time := extract(epoch from clock_timestamp() - started);
    started := clock_timestamp();
    execute near using query, 1000;
    long_time := extract(epoch from clock_timestamp() - started);
    perform
      set_config('enable_seqscan', seqscan, true),
      set_config('hnsw.iterative_scan', scan, true),
      set_config('hnsw.ef_search', ef_before, true);
    index_times := index_times || (long_time - short_time) / 800;
    started := clock_timestamp();
    select e.matched into few_matched from pgembed.dense_exact(measured, query, 10, few, null) as e;
    short_time := extract(epoch from clock_timestamp() - started);
    started := clock_timestamp();
    select e.matched into many_matched from pgembed.dense_exact(measured, query, 10, many, null) as e;
    long_time := extract(epoch from clock_timestamp() - started);
    -- A disturbed run must not make a row free.
    exact_times := exact_times || greatest(long_time - short_time, long_time / 10) / greatest(many_matched - few_matched, 1);
  end loop;
  select 1e6 * percentile_cont(0.5) within group (order by t.took) into exact_row from unnest(exact_times[2:]) as t (took);
  select 1e6 * percentile_cont(0.5) within group (order by t.took) / pgembed.scan_visits() into index_tuple from unnest(index_times[2:]) as t (took);
  -- 16 times off the usual ratio either way: a disturbed measurement must not make every search exact, or none.
  plausible := least(greatest(index_tuple, exact_row / 64), exact_row * 4);
  select array_agg((pgembed.plan_rows(measured, k, null)).threshold order by k) into thresholds from unnest('{10,100}'::int[]) as k;
  return query
  select c.name, 'microseconds', p.microseconds, c.microseconds, c.note
  from (
    values ('exact_row', exact_row, null),
      ('index_tuple', plausible, case when plausible <> index_tuple then
        format('measured as %s, which is not plausible beside exact_row: kept as %s of it; measure again on a quiet server',
          round(index_tuple::numeric, 4), case when plausible > index_tuple then '1/64' else '4 times' end) end)
  ) as c (name, microseconds, note)
  left join pgembed.planner_cost as p on p.name = c.name;
  insert into pgembed.planner_cost as p (name, microseconds)
  values ('exact_row', exact_row), ('index_tuple', plausible)
  on conflict on constraint planner_cost_pkey do update set microseconds = excluded.microseconds, measured_at = now();
  return query
  select format('threshold, k = %s', t.k), 'chunks', thresholds[t.n]::float8, (pgembed.plan_rows(measured, t.k, null)).threshold::float8, null::text
  from unnest('{10,100}'::int[]) with ordinality as t (k, n)
  order by t.k;
end
$$;
comment on function pgembed.calibrate(text, float8) is
  'Measures on this server, with a collection''s own tables, what a row costs that is joined and compared (exact_row) and what an element costs that an index scan visits (index_tuple), and keeps both: their ratio is where searches change from exact to the index. Returns both before and after, and the thresholds of the collection that follow. Takes at most about so many seconds. Forget them: delete from pgembed.planner_cost.';

create or replace function pgembed.calibrate(collection text) returns table (name text, before float8, microseconds float8)
language plpgsql
set search_path from current
as $$
#variable_conflict use_column
declare
  measured pgembed.collection := pgembed.collection_named(calibrate.collection);
  chunks float8;
  queries halfvec[];
  query halfvec;
  started timestamptz;
  short float8[] := '{}';
  long float8[] := '{}';
  exact float8[] := '{}';
  statement text;
  compared bigint;
  exact_row float8;
  index_tuple float8;
  scan text := coalesce(current_setting('hnsw.iterative_scan', true), 'off');
  ef_before text := coalesce(current_setting('hnsw.ef_search', true), '40');
begin
  select greatest(r.reltuples, 0) into chunks from pg_class as r where r.oid = to_regclass(format('pgembed_data.%I', measured.name));
  if not pgembed.has_hnsw(measured.name) or chunks < 3000 then
    raise exception using errcode = 'PGE03',
      message = format('collection %L cannot be calibrated with: it has %s chunks and %s index', measured.name, chunks,
        case when pgembed.has_hnsw(measured.name) then 'an' else 'no' end),
      hint = 'Take one of 3000 chunks or more whose first sync has built its index; after a bulk load run analyze.';
  end if;
  execute format('select array_agg(d.embedding) from (select t.embedding from pgembed_data.%I as t tablesample system (%s) repeatable (0) limit 8) as d',
    measured.name, least(100, 100 * 400 / chunks)) into queries;
  perform set_config('hnsw.iterative_scan', 'relaxed_order', true), set_config('hnsw.ef_search', '100', true);
  statement := format('select count(*) from (select from pgembed_data.%I as d order by d.embedding <=> $1 limit $2) as near', measured.name);
  -- The first query warms the caches.
  foreach query in array queries || queries[1:1] loop
    started := clock_timestamp();
    execute statement using query, 200;
    short := short || extract(epoch from clock_timestamp() - started)::float8;
    started := clock_timestamp();
    execute statement using query, 1000;
    long := long || extract(epoch from clock_timestamp() - started)::float8;
    started := clock_timestamp();
    execute format(
      'select count(*) from (
         select min((d.embedding <=> $1) + 0)
         from (select * from %1$s as t limit 1000) as s join pgembed_data.%2$I as d on %3$s
         group by d.ctid) as rows', measured.source, measured.name, pgembed.side_join(measured, 'd', 's')
    ) into compared using query;
    exact := exact || (extract(epoch from clock_timestamp() - started)::float8 / greatest(compared, 1));
  end loop;
  perform set_config('hnsw.iterative_scan', scan, true), set_config('hnsw.ef_search', ef_before, true);
  select 1e6 * percentile_cont(0.5) within group (order by e.seconds) into exact_row from unnest(exact[2:]) as e (seconds);
  -- 800 more rows, for each of which a scan visits about 11 elements, as pgembed.plan_rows has it.
  select 1e6 * percentile_cont(0.5) within group (order by b.long_seconds - b.short_seconds) / 800 / 11 into index_tuple
  from unnest(short[2:], long[2:]) as b (short_seconds, long_seconds);
  -- A disturbed measurement must not make every search exact, or none.
  index_tuple := least(greatest(index_tuple, exact_row / 20), exact_row * 4);
  return query
  select c.name, p.microseconds, c.microseconds
  from (values ('exact_row', exact_row), ('index_tuple', index_tuple)) as c (name, microseconds)
  left join pgembed.planner_cost as p on p.name = c.name;
  insert into pgembed.planner_cost as p (name, microseconds)
  values ('exact_row', exact_row), ('index_tuple', index_tuple)
  on conflict on constraint planner_cost_pkey do update set microseconds = excluded.microseconds, measured_at = now();
end
$$;
comment on function pgembed.calibrate(text) is
  'Measures on this server, with a collection''s own tables, what a row costs that is joined and compared (exact_row) and what an element costs that an index scan visits (index_tuple), in microseconds, and keeps both: their ratio is where searches change from exact to the index. Takes some seconds. Forget them: delete from pgembed.planner_cost.';

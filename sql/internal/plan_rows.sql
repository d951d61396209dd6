create or replace function pgembed.plan_rows(
  collection pgembed.collection,
  k int,
  filter jsonb,
  out predicate text,
  out total float8,
  out estimated bigint,
  out threshold bigint,
  out indexed boolean,
  out few boolean,
  out ef int,
  out given int,
  out why text
)
language plpgsql
set search_path from current
as $$
declare
  side regclass := to_regclass(format('pgembed_data.%I', collection.name));
  -- Costs of a row that is joined and compared, and of an element of the index that a scan visits: as calibrated, or their
  -- usual ratio.
  exact_row float8 := coalesce((select c.microseconds from pgembed.planner_cost as c where c.name = 'exact_row'), 1);
  index_tuple float8 := coalesce((select c.microseconds from pgembed.planner_cost as c where c.name = 'index_tuple'), 0.25);
  -- Rows that are asked for, so that recall is 0.99.
  oversampling constant float8 := 1.5;
  explained json;
begin
  perform pgembed.check_source(collection);
  predicate := pgembed.compile_filter(collection.source, plan_rows.filter);
  predicate := concat_ws(' and ', nullif(predicate, 'true'), pgembed.unexpired(collection, 's'));
  -- The source is joined only where it decides which rows are seen.
  if predicate = '' then
    predicate := case when row_security_active(collection.source) then 'true' end;
  end if;
  select greatest(r.reltuples, 0) into total from pg_class as r where r.oid = side;
  -- Where both cost the same: exact_row * n = (scan_visits * index_tuple + exact_row) * oversampling * k * N / n. A small table is
  -- read as a whole for less than a scan of the index reads.
  threshold := case
    when total <= 3000 then 3000
    else least(greatest(sqrt((pgembed.scan_visits() * index_tuple / exact_row + 1) * oversampling * plan_rows.k * total), 500), 50000)
  end;
  begin
    execute format('explain (format json) select from %s as d %s', side, pgembed.side_matching(collection, predicate)) into explained;
  exception when undefined_function or datatype_mismatch or indeterminate_datatype then
    raise exception using errcode = 'PGE02', message = format('the filter does not fit its columns: %s', sqlerrm);
  end;
  estimated := (explained -> 0 -> 'Plan' ->> 'Plan Rows')::float8;
  total := greatest(total, estimated);
  -- Beyond 3200 rows an index scan repeats itself too often.
  indexed := plan_rows.k <= 3200 and pgembed.has_hnsw(collection.name);
  few := estimated <= 1.1 * threshold;
  -- Looking much further than expected means that the rows that match are far from the query: comparing them is cheaper then.
  given := least(greatest(2 * oversampling * plan_rows.k * total / greatest(estimated, 1), 1), 1000000);
  -- So that recall stays 0.99 while the graph grows: measured from 20,000 to 200,000 rows.
  ef := least(greatest(100 * sqrt(total / 20000), 100), 400);
  given := greatest(given, ef);
  why := case
    when plan_rows.k > 3200 then 'k is beyond what one index scan returns'
    when not indexed then 'there is no HNSW index yet'
    when few then format('about %s chunks match by the planner''s estimate, near or below the threshold of %s', estimated, threshold)
    else format('about %s chunks match by the planner''s estimate, far above the threshold of %s', estimated, threshold)
  end;
end
$$;
comment on function pgembed.plan_rows(pgembed.collection, int, jsonb) is
  'What a search knows before it starts: the condition, how many chunks match by the planner''s estimate, up to how many exact search is cheaper, and how far to look in the index.';

create or replace function pgembed.plan_search(
  collection text,
  k int default 10,
  filter jsonb default null
) returns table (plan text, predicate text, estimated bigint, counted bigint, threshold bigint, why text)
language plpgsql
set search_path from current
as $$
declare
  searched pgembed.collection := pgembed.collection_named(plan_search.collection);
  side regclass := to_regclass(format('pgembed_data.%I', plan_search.collection));
  total float8;
  explained json;
begin
  if plan_search.k is null or plan_search.k < 0 then
    raise exception using errcode = 'PGE03', message = format('k is %s; it is the number of rows to return, 0 or more', coalesce(plan_search.k::text, 'null'));
  end if;
  perform pgembed.check_source(searched);
  predicate := pgembed.compile_filter(searched.source, plan_search.filter);
  -- The source is joined only where it decides which rows are seen.
  if predicate = 'true' and not row_security_active(searched.source) then
    predicate := null;
  end if;
  select greatest(r.reltuples, 0) into total from pg_class as r where r.oid = side;
  -- Where exact and approximate search cost the same: sqrt(18 k N), 18 fitted on 100,000 x 384 halfvec.
  threshold := least(greatest(sqrt(18.0 * plan_search.k * total), 1000), 50000);
  begin
    if predicate is null then
      execute format('explain (format json) select from %s', side) into explained;
    else
      execute format('explain (format json) select from %s as d join %s as s on %s where %s',
        side, searched.source, pgembed.side_join(searched, 'd', 's'), predicate) into explained;
    end if;
  exception when undefined_function or datatype_mismatch or indeterminate_datatype then
    raise exception using errcode = 'PGE02', message = format('the filter does not fit its columns: %s', sqlerrm);
  end;
  estimated := (explained -> 0 -> 'Plan' ->> 'Plan Rows')::float8;
  if not pgembed.has_hnsw(plan_search.collection) then
    plan := 'exact';
    why := 'there is no HNSW index yet';
  elsif plan_search.k > 500 then
    plan := 'exact';
    why := 'k is beyond what one index scan returns';
  elsif estimated > 4 * threshold then
    plan := 'hnsw';
    why := format('about %s chunks match, far above the threshold of %s', estimated, threshold);
  else
    if predicate is null then
      execute format('select count(*) from (select from %s limit %s) as few', side, threshold + 1) into counted;
    else
      execute format('select count(*) from (select from %s as d join %s as s on %s where %s limit %s) as few',
        side, searched.source, pgembed.side_join(searched, 'd', 's'), predicate, threshold + 1) into counted;
    end if;
    plan := case when counted <= threshold then 'exact' else 'hnsw' end;
    why := case when counted <= threshold
      then format('%s chunks match, no more than the threshold of %s', counted, threshold)
      else format('more than %s chunks match', threshold) end;
  end if;
  return next;
end
$$;
comment on function pgembed.plan_search(text, int, jsonb) is
  'How pgembed.search would find the k nearest rows that match a filter: exact, or by the HNSW index; from the planner''s estimate, or a bounded count where that is near the threshold.';

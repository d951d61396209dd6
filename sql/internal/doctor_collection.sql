create or replace function pgembed.doctor_collection(collection pgembed.collection) returns table (name text, verdict text, detail text, remedy text)
language plpgsql
set search_path from current
as $$
#variable_conflict use_column
declare
  side regclass := to_regclass(format('pgembed_data.%I', collection.name));
  status record;
  problem text;
  way_out text;
begin
  begin
    perform pgembed.check_source(collection);
  exception when others then
    get stacked diagnostics way_out = pg_exception_hint;
    return query select format('%s: source', collection.name), 'failed', sqlerrm, way_out;
    return;
  end;
  return query select format('%s: source', collection.name), 'ok', format('%s has the columns that are read', collection.source), null::text;
  problem := pgembed.trigger_problem(collection);
  return query select format('%s: triggers', collection.name), case when problem is null then 'ok' else 'failed' end,
    coalesce(problem, 'changes are noted'),
    case when problem is not null then format(
      'alter table %1$s enable trigger user; select pgembed.attach_triggers(c) from pgembed.collection as c where c.name = %2$L; select pgembed.mark_stale(%2$L);',
      collection.source, collection.name) end;
  select s.* into status from pgembed.collection_status() as s where s.name = collection.name;
  if status.indexed or status.chunks <= 3000 then
    return query select format('%s: index', collection.name), 'ok',
      case when status.indexed then 'the HNSW index is valid' else format('%s chunks need no index', status.chunks) end, null::text;
  else
    return query select format('%s: index', collection.name), 'warning', format('no valid HNSW index: each search reads all of %s chunks', status.chunks),
      format('select pgembed.build_index(%L);', collection.name);
  end if;
  if status.paused_at is not null then
    return query select format('%s: queue', collection.name), 'warning', format('paused since %s, %s rows wait', status.paused_at, status.stale),
      format('select pgembed.resume(%L);', collection.name);
  elsif status.oldest < now() - interval '10 minutes' then
    return query select format('%s: queue', collection.name), 'warning', format('%s rows wait, the oldest since %s', status.stale, status.oldest),
      'Embed them: pgembed sync; or keep a worker running: pgembed worker';
  else
    return query select format('%s: queue', collection.name), 'ok', format('%s rows wait', status.stale), null::text;
  end if;
  return query select format('%s: failures', collection.name), case status.failed when 0 then 'ok' else 'warning' end, format('%s rows could not be embedded', status.failed),
    case when status.failed > 0 then format('Why: select key, error from pgembed.failure; then: select pgembed.retry(%L);', collection.name) end;
  return query select format('%s: statistics', collection.name), case when r.reltuples < 0 then 'warning' else 'ok' end,
    case when r.reltuples < 0 then 'never analysed, so plans are guesses' else 'analysed' end,
    case when r.reltuples < 0 then format('analyze %s;', side) end
  from pg_class as r where r.oid = side;
end
$$;
comment on function pgembed.doctor_collection(pgembed.collection) is
  'Checks of pgembed.doctor for a collection: source, triggers, index, queue, failures, statistics.';

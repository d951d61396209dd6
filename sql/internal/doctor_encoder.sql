create or replace function pgembed.doctor_encoder(encoder text) returns table (name text, verdict text, detail text, remedy text)
language plpgsql
set search_path from current
as $$
#variable_conflict use_column
declare
  collection text := (select min(c.name) from pgembed.collection as c where c.encoder = doctor_encoder.encoder);
  started timestamptz := clock_timestamp();
begin
  name := format('%s: worker', doctor_encoder.encoder);
  if not pgembed.has_encode_worker(doctor_encoder.encoder) then
    verdict := 'warning';
    detail := 'no worker is there to encode query texts from SQL';
    remedy := (pgembed.no_worker(doctor_encoder.encoder)).hint;
    return next;
    return;
  end if;
  verdict := 'ok';
  detail := 'a worker is there';
  return next;
  if pgembed.dblink_schema() is null or not exists (select from pgembed.loopback) then
    return;
  end if;
  name := format('%s: text query', doctor_encoder.encoder);
  begin
    -- A text that no cache holds.
    perform pgembed.encode(collection, format('how is it going at %s', started), 'base');
    detail := format('answered in %s ms', round(1000 * extract(epoch from clock_timestamp() - started), 1));
  exception when others then
    verdict := 'failed';
    detail := sqlerrm;
    get stacked diagnostics remedy = pg_exception_hint;
  end;
  return next;
end
$$;
comment on function pgembed.doctor_encoder(text) is
  'Checks of pgembed.doctor for an encoder: whether a worker is there, and one text sent all the way.';

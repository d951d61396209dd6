create or replace function pgembed.routing_version(encoder text) returns text
language sql stable parallel safe
begin atomic
  select md5(concat_ws('|',
    -- The time tells a version that was rolled back from the next one of the same number.
    (select concat_ws(':', r.version, extract(epoch from r.built_at)) from pgembed.router as r where r.encoder = routing_version.encoder),
    (select string_agg(concat_ws(':', e.name, e.state, e.sha256), ',' order by e.name)
     from pgembed.expert as e where e.encoder = routing_version.encoder)));
end;
comment on function pgembed.routing_version(text) is
  'Changes whenever the router or an expert of an encoder does: clients compare it to keep what they loaded.';

create or replace function pgembed.query_key(encoder text, mode text, query text) returns uuid
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  fingerprint text := (select e.fingerprint from pgembed.encoder as e where e.name = query_key.encoder);
begin
  -- Parts of a fixed length: no two of them run into each other.
  return md5(fingerprint || pgembed.routing_version(query_key.encoder) || md5(query_key.mode) || md5(query_key.query))::uuid;
end
$$;
comment on function pgembed.query_key(text, text, text) is
  'Under what the routed vector of a text is kept: another model, another routing, mode or text has another key.';

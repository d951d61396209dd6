create or replace function pgembed.sweep_requests(
  cache_ttl interval default '1 day',
  cache_size int default 10000
) returns int
language plpgsql
set search_path from current
as $$
declare
  requests int;
  aged int;
  beyond int;
begin
  delete from pgembed.encode_request as r where r.requested_at < clock_timestamp() - interval '60 seconds';
  get diagnostics requests = row_count;
  delete from pgembed.encode_cache as c where c.encoded_at < now() - sweep_requests.cache_ttl;
  get diagnostics aged = row_count;
  delete from pgembed.encode_cache as c
  where c.cache_key in (
    select o.cache_key from pgembed.encode_cache as o order by o.encoded_at desc, o.cache_key offset greatest(sweep_requests.cache_size, 0));
  get diagnostics beyond = row_count;
  return requests + aged + beyond;
end
$$;
comment on function pgembed.sweep_requests(interval, int) is
  'Deletes requests that nobody waits for any longer, and what is too old or too much in the cache of query vectors; returns how many rows.';

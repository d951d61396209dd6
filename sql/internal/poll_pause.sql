create or replace function pgembed.poll_pause(polls int) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform pg_sleep(case when polls < 20 then 0.001 when polls < 100 then 0.002 else 0.01 end);
end
$$;
comment on function pgembed.poll_pause(int) is
  'Sleeps before a session looks for its answer again: 1 ms at first, 10 ms in the end.';

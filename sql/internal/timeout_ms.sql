create or replace function pgembed.timeout_ms() returns int
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  setting text := coalesce(nullif(current_setting('pgembed.timeout_ms', true), ''), '5000');
begin
  -- The upper bound is the age at which sweep_requests deletes a request.
  if setting !~ '^\d{1,5}$' or setting::int not between 1 and 60000 then
    raise exception using errcode = 'PGE03',
      message = format('pgembed.timeout_ms is %L; it is a number of milliseconds from 1 to 60000', setting);
  end if;
  return setting::int;
end
$$;
comment on function pgembed.timeout_ms() is
  'How long a session waits for a worker: the setting pgembed.timeout_ms, 5000 unless set.';

create or replace function pgembed.raise_failure(error text, code text, hint text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  state text := case when raise_failure.code ~ '^[0-9A-Z]{5}$' then raise_failure.code else 'PGE06' end;
begin
  if nullif(raise_failure.hint, '') is null then
    raise exception using errcode = state, message = coalesce(raise_failure.error, 'a worker failed without saying why');
  end if;
  raise exception using errcode = state, message = coalesce(raise_failure.error, 'a worker failed without saying why'), hint = raise_failure.hint;
end
$$;
comment on function pgembed.raise_failure(text, text, text) is
  'Raises what a worker, or the way to it, failed with: PGE06 unless a code is given.';

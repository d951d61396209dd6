create or replace function pgembed.no_worker(encoder text, out error text, out code text, out hint text)
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  error := format('no worker is there to encode a text with encoder %L', no_worker.encoder);
  code := 'PGE06';
  hint := 'Start one, and keep it running: pgembed worker';
end
$$;
comment on function pgembed.no_worker(text) is
  'What is said where no encode worker lives.';

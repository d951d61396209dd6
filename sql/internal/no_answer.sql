create or replace function pgembed.no_answer(encoder text, out error text, out code text, out hint text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  error := format('no worker encoded the text with encoder %L within %s ms', no_answer.encoder, pgembed.timeout_ms());
  code := 'PGE06';
  hint := 'See what the workers are at: select * from pgembed.worker; start more: pgembed worker; wait longer: set pgembed.timeout_ms = 20000';
end
$$;
comment on function pgembed.no_answer(text) is
  'What is said where a worker lives, and does not answer in time.';

create or replace function pgembed.filter_document(document json) returns jsonb
language plpgsql immutable strict
set search_path from current
as $$
begin
  return filter_document.document::jsonb;
exception when data_exception or program_limit_exceeded then
  return null;
end
$$;
comment on function pgembed.filter_document(json) is
  'A json as jsonb; null where jsonb cannot hold it, for example \u0000 or a number beyond numeric.';

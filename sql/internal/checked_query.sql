create or replace function pgembed.checked_query(collection pgembed.collection, query vector, what text default 'query') returns vector
language plpgsql stable parallel safe
set search_path from current
as $$
declare
  dimensions int := (pgembed.encoder_named(collection.encoder)).dimensions;
begin
  if checked_query.query is null then
    raise exception using errcode = 'PGE03', message = format('the %s vector is null', checked_query.what);
  elsif vector_dims(checked_query.query) <> dimensions then
    raise exception using errcode = 'PGE03',
      message = format('the %s vector has %s dimensions; collection %L has %s', checked_query.what, vector_dims(checked_query.query), collection.name, dimensions),
      hint = format('Encode it with encoder %L.', collection.encoder);
  elsif vector_norm(checked_query.query) = 0 then
    raise exception using errcode = 'PGE03', message = format('the %s vector is zero: it has no direction to search in', checked_query.what);
  end if;
  return checked_query.query;
end
$$;
comment on function pgembed.checked_query(pgembed.collection, vector, text) is
  'A vector that a collection can be searched with; PGE03 says why it cannot.';

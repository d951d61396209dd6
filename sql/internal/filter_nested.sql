create or replace function pgembed.filter_nested(path text[], value jsonb) returns jsonb
language plpgsql immutable strict parallel safe
set search_path from current
as $$
declare
  document jsonb := filter_nested.value;
begin
  for position in reverse cardinality(filter_nested.path) .. 1 loop
    document := jsonb_build_object(filter_nested.path[position], document);
  end loop;
  return document;
end
$$;
comment on function pgembed.filter_nested(text[], jsonb) is
  'The smallest json object that holds a value at a path of keys.';

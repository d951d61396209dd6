create or replace function pgembed.filter_element(type oid) returns oid
language sql stable parallel safe
return case
  -- What is not written as an array is none, and need not be looked up.
  when format_type(pgembed.filter_base_type(filter_element.type), null) like '%[]' then (
    select e.oid
    from pg_catalog.pg_type as t
    join pg_catalog.pg_type as e on e.oid = t.typelem
    -- vectors of the catalog have elements too, but are no arrays.
    where t.oid = pgembed.filter_base_type(filter_element.type) and e.typarray = t.oid
  )
end;
comment on function pgembed.filter_element(oid) is
  'The type of the elements of an array, or of a domain over one; null for any other type.';

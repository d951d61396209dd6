create or replace function pgembed.filter_base_type(type oid) returns oid
language sql stable parallel safe
return case
  -- PostgreSQL's own types have the first ten thousand numbers, and none of them is a domain: nothing to look up.
  when filter_base_type.type < 10000 then filter_base_type.type
  else (
    with recursive types (oid, base) as (
      select
        t.oid,
        t.typbasetype
      from pg_catalog.pg_type as t
      where t.oid = filter_base_type.type
      union all
      select
        t.oid,
        t.typbasetype
      from types as d
      join pg_catalog.pg_type as t on t.oid = d.base
    )
    select t.oid
    from types as t
    where t.base = 0
  )
end;
comment on function pgembed.filter_base_type(oid) is
  'The type under a domain, or under domains over domains; any other type itself.';

create or replace function pgembed.filter_operator(type oid, symbol text) returns text
language sql stable parallel safe
return coalesce(
  (
    select case
      when pg_operator_is_visible(o.oid) then filter_operator.symbol
      -- citext = citext beyond the search path would silently be text = text.
      else format('operator(%I.%s)', n.nspname, o.oprname)
    end
    from pg_catalog.pg_operator as o
    join pg_catalog.pg_namespace as n on n.oid = o.oprnamespace
    where o.oprname = filter_operator.symbol and o.oprleft = pgembed.filter_base_type(filter_operator.type) and o.oprright = o.oprleft
    order by pg_operator_is_visible(o.oid) desc
    limit 1
  ),
  filter_operator.symbol
);
comment on function pgembed.filter_operator(oid, text) is
  'A comparison of a type as SQL: its symbol, or operator(schema.symbol) where the search path does not lead to it.';

create or replace function pgembed.filter_operator(source regclass, column_name text, symbol text) returns text
language sql stable parallel safe
return (
  select case
    when o.oid is null or pg_operator_is_visible(o.oid) then filter_operator.symbol
    -- citext = citext beyond the search path would silently be text = text.
    else format('operator(%I.%s)', n.nspname, o.oprname)
  end
  from pg_catalog.pg_attribute as a
  join pg_catalog.pg_type as t on t.oid = a.atttypid
  left join pg_catalog.pg_operator as o
    on o.oprname = filter_operator.symbol and o.oprleft = coalesce(nullif(t.typbasetype, 0), t.oid) and o.oprright = o.oprleft
  left join pg_catalog.pg_namespace as n on n.oid = o.oprnamespace
  where a.attrelid = filter_operator.source and a.attname = filter_operator.column_name and not a.attisdropped
  order by pg_operator_is_visible(o.oid) desc nulls last
  limit 1
);
comment on function pgembed.filter_operator(regclass, text, text) is
  'A comparison of a column''s type as SQL: its symbol, or operator(schema.symbol) where the search path does not lead to it.';

create or replace function pgembed.key_text(columns text[], alias text) returns text
language sql immutable parallel safe
-- Not by ::text: that may be a cast which the source's owner wrote, and a trigger runs it with our rights.
return case
  when cardinality(key_text.columns) = 1 then format('format(''%%s'', %I.%I)', key_text.alias, key_text.columns[1])
  else (
    select format('jsonb_build_array(%s)::text', string_agg(format('format(''%%s'', %I.%I)', key_text.alias, c.name), ', ' order by c.position))
    from unnest(key_text.columns) with ordinality as c (name, position)
  )
end;
comment on function pgembed.key_text(text[], text) is
  'SQL expression for a key as text: of one column its text, of several a json array of texts.';

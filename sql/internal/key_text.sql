create or replace function pgembed.key_text(columns text[], alias text, settled boolean default true) returns text
language sql immutable parallel safe
-- Not by ::text: that may be a cast which the source's owner wrote, and a trigger runs it with our rights.
return (
  select case when count(*) = 1 then min(part.one) else format('jsonb_build_array(%s)::text', string_agg(part.one, ', ' order by part.place)) end
  from (
    select
      c.place,
      format(case when key_text.settled then 'format(''%%s'', %I.%I)' else 'pgembed.as_key(%I.%I)' end, key_text.alias, c.name) as one
    from unnest(key_text.columns) with ordinality as c (name, place)
  ) as part
);
comment on function pgembed.key_text(text[], text, boolean) is
  'SQL expression for a key as text: of one column its text, of several a json array of texts. settled where the caller has pinned the settings that texts depend on; the expression pins them itself otherwise, a row at a time.';

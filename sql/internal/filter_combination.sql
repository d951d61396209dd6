create or replace function pgembed.filter_combination(
  source regclass,
  filter jsonb,
  alias text,
  depth int,
  negated boolean
) returns text
language plpgsql stable
set search_path from current
as $$
declare
  name text;
  value jsonb;
  parts text[] := '{}';
begin
  if filter_combination.depth > 16 then
    raise exception using errcode = 'PGE02', message = 'the filter is nested deeper than 16 levels';
  elsif jsonb_typeof(filter_combination.filter) <> 'object' then
    raise exception using errcode = 'PGE02',
      message = format('a filter is a json object of columns, not %s', left(filter_combination.filter::text, 100)),
      hint = 'For example {"year": {"gte": 2020}, "topic": ["a", "b"]}.';
  end if;
  for name, value in select e.key, e.value from jsonb_each(filter_combination.filter) as e loop
    if name in ('and', 'or') then
      if jsonb_typeof(value) <> 'array' then
        raise exception using errcode = 'PGE02', message = format('%L takes an array of filters, not %s', name, left(value::text, 100));
      end if;
      parts := parts || coalesce(
        (select '(' || string_agg(pgembed.filter_combination(filter_combination.source, v.value, filter_combination.alias, filter_combination.depth + 1, filter_combination.negated),
                                  ' ' || name || ' ' order by v.position) || ')'
         from jsonb_array_elements(value) with ordinality as v (value, position)),
        (name = 'and')::text);
    elsif name = 'not' then
      parts := parts || ('not ' || pgembed.filter_combination(filter_combination.source, value, filter_combination.alias, filter_combination.depth + 1, not filter_combination.negated));
    else
      parts := parts || pgembed.filter_key(filter_combination.source, name, value, filter_combination.alias, filter_combination.negated);
    end if;
  end loop;
  return case cardinality(parts) when 0 then 'true' else '(' || array_to_string(parts, ' and ') || ')' end;
end
$$;
comment on function pgembed.filter_combination(regclass, jsonb, text, int, boolean) is
  'An object of a filter as SQL, with all that nests in it. Where it is negated, by an odd number of not around it, unknown and false are kept apart.';

create or replace function pgembed.check_search(
  collection pgembed.collection,
  k int,
  hybrid boolean,
  query_text text,
  lexical_weight float8,
  fusion text,
  skip int,
  after jsonb,
  columns text[],
  group_by text,
  per_group int
) returns void
language plpgsql stable parallel safe
set search_path from current
as $$
declare
  unknown text;
begin
  if check_search.k is null or check_search.k < 0 then
    raise exception using errcode = 'PGE03', message = format('k is %s; it is the number of rows to return, 0 or more', coalesce(check_search.k::text, 'null'));
  elsif check_search.hybrid and check_search.query_text is null then
    raise exception using errcode = 'PGE03', message = 'a hybrid search needs query_text, the words of the query';
  elsif check_search.lexical_weight not between 0 and 1 then
    raise exception using errcode = 'PGE03', message = format('lexical_weight is %s; it lies between 0 and 1', check_search.lexical_weight);
  elsif check_search.fusion not in ('zscore', 'minmax', 'rrf') then
    raise exception using errcode = 'PGE03', message = format('there is no fusion %L', check_search.fusion), hint = 'Fusions are zscore, minmax, rrf.';
  elsif check_search.skip is null or check_search.skip < 0 then
    raise exception using errcode = 'PGE03', message = format('offset is %s; it is the number of rows to skip, 0 or more', coalesce(check_search.skip::text, 'null'));
  elsif check_search.after is not null and check_search.skip > 0 then
    raise exception using errcode = 'PGE03', message = 'a page starts at an offset or after a cursor, not both';
  elsif check_search.per_group is null or check_search.per_group < 1 then
    raise exception using errcode = 'PGE03', message = format('per_group is %s; it is the number of rows of a group, 1 or more', coalesce(check_search.per_group::text, 'null'));
  end if;
  -- Of a dense search: rank, score, key; a hybrid one adds the four numbers that its scores were made with.
  if not (
    jsonb_typeof(check_search.after) = 'array'
    and jsonb_array_length(check_search.after) in (3, 7)
    and jsonb_typeof(check_search.after -> 2) = 'string'
    and not jsonb_path_exists(check_search.after, '$[0, 1, 3 to last] ? (@.type() != "number" && @.type() != "null")')
    and jsonb_typeof(check_search.after -> 0) = 'number' and jsonb_typeof(check_search.after -> 1) = 'number'
    and (check_search.after -> 0) between '1' and '2000000000' and check_search.after ->> 0 ~ '^[0-9]+$'
    and (check_search.after -> 1) between '-1e300' and '1e300'
  ) then
    raise exception using errcode = 'PGE03',
      message = format('after is %s, which is no cursor', left(check_search.after::text, 100)),
      hint = 'Give the cursor of the last hit of the page before.';
  elsif check_search.after is not null and (jsonb_array_length(check_search.after) = 7) <> check_search.hybrid then
    raise exception using errcode = 'PGE03', message = 'the cursor comes from another search: one of the two is hybrid, the other is not';
  end if;
  if cardinality(check_search.columns) > 50 or array_position(check_search.columns, null) is not null then
    raise exception using errcode = 'PGE03', message = format('columns are up to 50 names, none of them null, unlike %s', left(check_search.columns::text, 100));
  end if;
  select n.name into unknown
  from unnest(check_search.columns || check_search.group_by) as n (name)
  where n.name is not null and not exists (
    select from pg_attribute as a
    where a.attrelid = (check_search.collection).source and a.attname = n.name and a.attnum > 0 and not a.attisdropped)
  limit 1;
  if unknown is not null then
    raise exception using errcode = 'PGE03',
      message = format('column %L of %s does not exist', unknown, (check_search.collection).source),
      hint = format('Its columns are %s.', pgembed.column_names((check_search.collection).source));
  end if;
end
$$;
comment on function pgembed.check_search(pgembed.collection, int, boolean, text, float8, text, int, jsonb, text[], text, int) is
  'Raises PGE03 for arguments of a search that cannot be used, naming the value.';

create or replace function pgembed.search(
  collection text,
  query vector,
  k int default 10,
  filter jsonb default null,
  hybrid boolean default false,
  query_text text default null,
  lexical_weight float8 default null,
  fusion text default null,
  exclude vector[] default null,
  min_score float8 default null,
  "offset" int default 0,
  after jsonb default null,
  columns text[] default null,
  group_by text default null,
  per_group int default 1
) returns setof pgembed.hit
language plpgsql stable rows 10
set search_path from current
as $$
begin
  return query select h.*
  from pgembed.run_search(
    search.collection, search.query, search.k, search.filter, coalesce(search.hybrid, false), search.query_text, search.lexical_weight, search.fusion,
    search.exclude, search.min_score, search."offset", search.after, search.columns, search.group_by, search.per_group
  ) as r
  cross join lateral unnest(r.hits) as h;
end
$$;
comment on function pgembed.search(
  text, vector, int, jsonb, boolean, text, float8, text, vector[], float8, int, jsonb, text[], text, int
) is
  'The k source rows nearest to a query vector that match the filter and that the caller may see: min(k, matching) rows, always. hybrid fuses in the words of query_text, as fitted for the collection or as fusion and lexical_weight say; exclude turns away from other vectors; min_score, offset, after (a hit''s cursor) and group_by with per_group choose among the rows; columns names what of the source comes back in fields.';

create or replace function pgembed.search(
  collection text,
  query text,
  k int default 10,
  filter jsonb default null,
  mode text default 'soft',
  hybrid boolean default false,
  lexical_weight float8 default null,
  fusion text default null,
  exclude text[] default null,
  min_score float8 default null,
  "offset" int default 0,
  after jsonb default null,
  columns text[] default null,
  group_by text default null,
  per_group int default 1,
  fresh boolean default false
) returns setof pgembed.hit
-- Volatile: what wait_fresh waited for is committed after the statement began.
language plpgsql rows 10
set search_path from current
as $$
declare
  unwanted vector[] := array(select pgembed.encode(search.collection, u.text, 'base') from unnest(search.exclude) as u (text));
  embedding vector := pgembed.encode(search.collection, search.query, search.mode);
begin
  if search.fresh then
    perform pgembed.wait_fresh(search.collection);
  end if;
  return query select h.*
  from pgembed.search(
    search.collection, embedding, search.k, search.filter, search.hybrid, search.query, search.lexical_weight, search.fusion,
    unwanted, search.min_score, search."offset", search.after, search.columns, search.group_by, search.per_group
  ) as h;
end
$$;
comment on function pgembed.search(
  text, text, int, jsonb, text, boolean, float8, text, text[], float8, int, jsonb, text[], text, int, boolean
) is
  'The same for a query text: pgembed.encode makes its vector, routed as mode says, and hybrid fuses in its words; exclude takes texts. fresh first waits until what was changed before is embedded. An untyped literal is a text: write ''[1, 2]''::vector for a vector.';

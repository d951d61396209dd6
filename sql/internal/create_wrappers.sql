create or replace function pgembed.create_wrappers(collection pgembed.collection) returns void
language plpgsql
set search_path from current
as $$
declare
  searching text := format('pgembed.%I', 'search_' || collection.name);
  ranking text := format('pgembed.%I', 'rank_' || collection.name);
  side_columns text;
  typed text;
  casts text;
  taken constant text[] := '{query, k, filter, hybrid, query_text, lexical_weight, fusion, exclude, min_score, offset, after, columns, group_by, per_group,
    mode, fresh, rank, score, dense_score, lexical_score, fields, cursor, distance}';
begin
  select
    string_agg(format('d.%I', pgembed.side_column(c.name)), ', ' order by c.position),
    -- A name that the functions have themselves gets source_ before it.
    string_agg(
      format('%I %s', case when c.name = any (taken) then 'source_' || c.name else pgembed.side_column(c.name) end, format_type(a.atttypid, a.atttypmod)),
      ', ' order by c.position),
    string_agg(
      format('(%s)::%s',
        case when cardinality(collection.key_columns) = 1 then 'h.key' else format('h.key::jsonb ->> %s', c.position - 1) end,
        format_type(a.atttypid, a.atttypmod)),
      ', ' order by c.position)
  into side_columns, typed, casts
  from unnest(collection.key_columns) with ordinality as c (name, position)
  join pg_attribute as a on a.attrelid = collection.source and a.attname = c.name and not a.attisdropped;
  execute format(
    'create or replace function %1$s(
       query vector, k int default 10, filter jsonb default null, hybrid boolean default false, query_text text default null,
       lexical_weight float8 default null, fusion text default null, exclude vector[] default null, min_score float8 default null,
       "offset" int default 0, after jsonb default null, columns text[] default null, group_by text default null, per_group int default 1
     ) returns table (%2$s, rank int, score float8, chunk_no int, content text, dense_score float8, lexical_score float8, fields jsonb, cursor jsonb)
     language sql stable rows 10
     begin atomic
       select %3$s, h.rank, h.score, h.chunk_no, h.content, h.dense_score, h.lexical_score, h.fields, h.cursor
       from pgembed.search(%4$L, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) as h;
     end',
    searching, typed, casts, collection.name);
  execute format('comment on function %s(vector, int, jsonb, boolean, text, float8, text, vector[], float8, int, jsonb, text[], text, int) is %L', searching,
    format('pgembed.search of collection %L, with keys in their own types.', collection.name));
  execute format(
    'create or replace function %1$s(
       query text, k int default 10, filter jsonb default null, mode text default ''soft'', hybrid boolean default false,
       lexical_weight float8 default null, fusion text default null, exclude text[] default null, min_score float8 default null,
       "offset" int default 0, after jsonb default null, columns text[] default null, group_by text default null, per_group int default 1,
       fresh boolean default false
     ) returns table (%2$s, rank int, score float8, chunk_no int, content text, dense_score float8, lexical_score float8, fields jsonb, cursor jsonb)
     language sql rows 10
     begin atomic
       select %3$s, h.rank, h.score, h.chunk_no, h.content, h.dense_score, h.lexical_score, h.fields, h.cursor
       from pgembed.search(%4$L, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) as h;
     end',
    searching, typed, casts, collection.name);
  execute format('comment on function %s(text, int, jsonb, text, boolean, float8, text, text[], float8, int, jsonb, text[], text, int, boolean) is %L', searching,
    format('pgembed.search of collection %L for a text, with keys in their own types.', collection.name));
  -- Parsed, stable and without settings, so that PostgreSQL puts it in place of the call: the index serves the caller's own limit.
  execute format(
    'create or replace function %1$s(query vector) returns table (%2$s, chunk_no int, content text, distance float8)
     language sql stable parallel safe
     begin atomic
       select %3$s, d.chunk_no, d.content, d.embedding <=> $1::halfvec from pgembed_data.%4$I as d;
     end',
    ranking, typed, side_columns, collection.name);
  execute format('comment on function %s is %L', ranking,
    format('Cosine distance of every chunk of collection %L to a vector, without a limit: filter, join and order by distance yourself.', collection.name));
end
$$;
comment on function pgembed.create_wrappers(pgembed.collection) is
  'Makes the functions of a collection that return its keys in their own types: search_<name> for a vector or a text, and rank_<name> to compose with.';

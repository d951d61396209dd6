create or replace function pgembed.page_statement(collection pgembed.collection, hybrid boolean, columns text[], group_by text) returns text
language plpgsql stable parallel safe
set search_path from current
as $$
declare
  -- Parameters: $1 to $6 of scored_candidates, $7 min_score, $8 k, $9 after, $10 rows to skip, $11 rows before the page, $12 per_group, $13 and $14 fusion.
  key_columns text;
  cursor_key text;
begin
  select
    string_agg(format('f.pgembed_key_%s', c.position), ', ' order by c.position),
    string_agg(
      format('(%s)::%s',
        case when cardinality(collection.key_columns) = 1 then '$9 ->> 2' else format('($9 ->> 2)::jsonb ->> %s', c.position - 1) end,
        format_type(a.atttypid, -1)),
      ', ' order by c.position)
  into key_columns, cursor_key
  from unnest(collection.key_columns) with ordinality as c (name, position)
  join pg_attribute as a on a.attrelid = collection.source and a.attname = c.name and not a.attisdropped;
  return format(
    'with scored as materialized (%1$s),
     spread as (
       select case
         when jsonb_array_length($9) = 7 then array[($9 ->> 3)::float8, ($9 ->> 4)::float8, ($9 ->> 5)::float8, ($9 ->> 6)::float8]
         when $13 = ''minmax'' then array[min(dense), max(dense) - min(dense), min(lexical), max(lexical) - min(lexical)]
         -- Of equal numbers the deviation is 0, or nearly 0 by rounding, which would divide into anything.
         when $13 = ''zscore'' then array[
           avg(dense), case when max(dense) > min(dense) then stddev_pop(dense) else 0 end,
           avg(lexical), case when max(lexical) > min(lexical) then stddev_pop(lexical) else 0 end]
       end as four
       from scored where is_first),
     fused as (
       select f.*, %2$s as score from scored as f cross join spread),
     grouped as (
       select f.*, %3$s as in_group from fused as f%4$s where $7 is null or f.score >= $7),
     placed as (
       select f.*, row_number() over (order by f.score desc, %5$s) - $10 as place
       from grouped as f
       where f.in_group <= $12
         and ($9 is null or f.score < ($9 ->> 1)::float8 or f.score = ($9 ->> 1)::float8 and (%5$s) > (%6$s))),
     page as (
       select
         f.place,
         row(
           f.key, $11 + f.place, f.score, f.chunk_no, f.content, f.dense, f.lexical, %7$s,
           jsonb_build_array($11 + f.place, f.score, f.key) || %8$s
         )::pgembed.hit as hit
       from placed as f where f.place between 1 and $8)
     select coalesce((select array_agg(p.hit order by p.place) from page as p), ''{}''), (select four from spread), (select count(*) from scored)',
    pgembed.scored_candidates(collection),
    case when hybrid then 'pgembed.fused_score($13, $14, f.dense, f.lexical, f.dense_rank, f.lexical_rank, spread.four)' else 'f.dense' end,
    case when group_by is null then '1'
      -- Rows without a group are a group each.
      else format('case when s.%1$I is null then 1 else row_number() over (partition by s.%1$I order by f.score desc, %2$s) end', group_by, key_columns) end,
    case when group_by is null then '' else format(' join %s as s on %s', collection.source, pgembed.candidate_join(collection)) end,
    key_columns,
    cursor_key,
    case when columns is null then 'null::jsonb' else format('(select jsonb_build_object(%s) from %s as s where %s)',
      (select string_agg(format('%L, s.%I', c.name, c.name), ', ' order by c.position) from unnest(columns) with ordinality as c (name, position)),
      collection.source, pgembed.candidate_join(collection)) end,
    -- A later page is scored with the same numbers, so that no row comes twice.
    case when hybrid then '(select jsonb_build_array(four[1], four[2], four[3], four[4]) from spread)' else '''[]''' end
  );
end
$$;
comment on function pgembed.page_statement(pgembed.collection, boolean, text[], text) is
  'SQL query that scores the candidates of a search, fuses, groups and orders them, and cuts the page.';

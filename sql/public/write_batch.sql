create or replace function pgembed.write_batch(
  collection text,
  claimer int,
  keys text[],
  versions bigint[]
) returns int
language plpgsql
set search_path from current
as $$
declare
  written pgembed.collection := pgembed.collection_named(write_batch.collection);
  side_key text[] := pgembed.side_key(written);
  on_side text := pgembed.key_match(written, pgembed.side_key(written), 'd', 's.key');
  owned text[];
  columns text;
  gone tsvector[];
  fresh tsvector[];
  average float8;
begin
  -- Before anything else, as pgembed.refresh and the build of the index do: whoever waits holds nothing that they need.
  execute format('lock table pgembed_data.%I in row exclusive mode', written.name);
  average := pgembed.average_length(written);
  -- An embedding that was not sent is one that the row has already, under the same hash.
  execute format(
    'update pg_temp.pgembed_staging as s set embedding = (
       select d.embedding from pgembed_data.%I as d where %s and d.content_hash = s.content_hash limit 1)
     where s.embedding is null', written.name, on_side);
  -- Whoever was given the row meanwhile, because the lease ran out or the collection was changed, writes it.
  select coalesce(array_agg(mine.key), '{}') into owned
  from (
    select t.key
    from pgembed.stale as t
    where t.key = any (write_batch.keys) and t.collection = written.name and t.claimed_by = write_batch.claimer
      and not exists (select from pg_temp.pgembed_staging as s where s.key = t.key and s.embedding is null)
    order by t.key
    for update of t skip locked
  ) as mine;
  execute format(
    'with gone as (
       delete from pgembed_data.%I as d using unnest($1) as s (key)
       where %s and not exists (
         select from pg_temp.pgembed_staging as n
         where n.key = s.key and n.chunk_no = d.chunk_no and n.content_hash = d.content_hash)
       returning d.lexemes)
     select array_agg(g.lexemes) from gone as g',
    written.name, on_side) into gone using owned;
  select string_agg(format('%I', k.name), ', ' order by k.position) into columns
  from unnest(side_key) with ordinality as k (name, position);
  execute format(
    'with written as (
       insert into pgembed_data.%1$I as old (%2$s, chunk_no, content, span, content_hash, embedding, bm25)
       -- Keys that are equal may be written differently, as 1.0 and 1.00.
       select distinct on (%3$s, s.chunk_no) %3$s, s.chunk_no, s.content, int4range(s.span_start, s.span_end), s.content_hash, s.embedding,
         pgembed.bm25_weights(to_tsvector($2::regconfig, s.content), $3)
       from pg_temp.pgembed_staging as s
       join %4$s as r on %5$s
       where s.key = any ($1)
       on conflict (%2$s, chunk_no) do update set span = excluded.span where old.span <> excluded.span
       returning old.lexemes, old.xmax = 0 as is_new)
     select array_agg(w.lexemes) filter (where w.is_new) from written as w',
    written.name, columns,
    (select string_agg(format('r.%I', c.name), ', ' order by c.position) from unnest(written.key_columns) with ordinality as c (name, position)),
    written.source, pgembed.key_match(written, written.key_columns, 'r', 's.key')
  ) into fresh using owned, written.language, average;
  delete from pgembed.failure as f where f.collection = written.name and f.key = any (owned);
  delete from pgembed.stale as t
  using unnest(write_batch.keys, write_batch.versions) as w (key, version)
  where t.collection = written.name and t.key = any (owned) and t.key = w.key and t.version = w.version;
  -- What is left changed meanwhile, and is embedded once more.
  update pgembed.stale as t set claimed_by = null, leased_until = null where t.collection = written.name and t.key = any (owned);
  -- Nothing else is locked from here on, so waiting does no harm.
  perform set_config('lock_timeout', '10s', true);
  -- Last, because all who write to the collection wait for each other here.
  perform pgembed.count_lexemes(written.name, gone, -1), pgembed.count_lexemes(written.name, fresh, 1);
  return cardinality(owned);
end
$$;
comment on function pgembed.write_batch(text, int, text[], bigint[]) is
  'Writes what a session has embedded, from its temporary table pgembed_staging, and takes those rows off the queue; rows that changed meanwhile stay on it. Returns how many rows were brought up to date.';

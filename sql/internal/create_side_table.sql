create or replace function pgembed.create_side_table(collection pgembed.collection, dimensions int) returns void
language plpgsql
set search_path from current
as $$
declare
  side_key text[] := pgembed.side_key(collection);
  columns text;
  keys text;
begin
  if to_regclass(format('pgembed_data.%I', collection.name)) is not null then
    raise exception using errcode = 'PGE03',
      message = format('table pgembed_data.%I exists already, and belongs to no collection', collection.name),
      hint = 'Drop that table, or take another name.';
  end if;
  select string_agg(
      format('%I %s%s not null', pgembed.side_column(c.name), format_type(a.atttypid, a.atttypmod),
        ' collate ' || nullif(a.attcollation, 0)::regcollation::text),
      ', ' order by c.position)
  into columns
  from unnest(collection.key_columns) with ordinality as c (name, position)
  join pg_attribute as a on a.attrelid = collection.source and a.attname = c.name and not a.attisdropped;
  select string_agg(format('%I', k.name), ', ' order by k.position) into keys from unnest(side_key) with ordinality as k (name, position);
  execute format(
    'create table pgembed_data.%1$I (
       %2$s,
       chunk_no int not null,
       content text not null,
       span int4range not null,
       content_hash bytea not null,
       embedding halfvec(%3$s) not null,
       lexemes tsvector generated always as (to_tsvector(%4$L::regconfig, content)) stored,
       bm25 sparsevec(536870912),
       encoded_at timestamptz not null default now(),
       primary key (%5$s, chunk_no),
       foreign key (%5$s) references %6$s (%7$s) on update cascade on delete cascade
     )',
    collection.name, columns, dimensions, collection.language, keys, collection.source,
    (select string_agg(format('%I', c.name), ', ' order by c.position) from unnest(collection.key_columns) with ordinality as c (name, position)));
  -- Out of line, every vector that is compared would cost a second page: the text moves out first.
  execute format('alter table pgembed_data.%I alter column embedding set storage main, alter column bm25 set storage main', collection.name);
  execute format('create index on pgembed_data.%I using gin (lexemes)', collection.name);
  execute format('comment on table pgembed_data.%I is %L', collection.name,
    format('Chunks and embeddings of %s, kept by pgembed.', collection.source));
  execute format('comment on column pgembed_data.%I.span is %L', collection.name, 'Characters of the content that the chunk covers, from 0.');
  execute format('comment on column pgembed_data.%I.bm25 is %L', collection.name, 'BM25 weights of the lexemes, without their inverse document frequency.');
  execute format('comment on column pgembed_data.%I.content_hash is %L', collection.name, 'sha256 of encoder fingerprint and chunk: equal means that the embedding is still right.');
end
$$;
comment on function pgembed.create_side_table(pgembed.collection, int) is
  'Makes the narrow table that holds the chunks of a collection. Its HNSW index comes after the first load.';

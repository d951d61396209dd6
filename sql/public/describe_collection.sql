create or replace function pgembed.describe_collection(collection text) returns table (
  name text,
  source text,
  key_columns text[],
  content_columns text[],
  max_tokens int,
  overlap int,
  language text,
  encoder text,
  fingerprint text,
  dimensions int,
  routing_version text
)
language plpgsql stable
set search_path from current
as $$
#variable_conflict use_column
begin
  perform pgembed.collection_named(describe_collection.collection);
  return query
  select c.name, c.source::text, c.key_columns, c.content_columns, c.max_tokens, c.overlap, c.language,
    e.name, e.fingerprint, e.dimensions, pgembed.routing_version(e.name)
  from pgembed.collection as c
  join pgembed.encoder as e on e.name = c.encoder
  where c.name = describe_collection.collection;
end
$$;
comment on function pgembed.describe_collection(text) is
  'A collection with what a client needs to search it: the encoder that its queries need, and the version of its routing.';

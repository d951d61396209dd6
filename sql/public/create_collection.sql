create or replace function pgembed.create_collection(
  name text,
  source regclass,
  content text[],
  encoder text,
  key text[] default null,
  max_tokens int default null,
  overlap int default null,
  language text default 'english',
  expires text default null,
  capture text default 'origin'
) returns void
language plpgsql
set search_path from current
as $$
declare
  made pgembed.collection;
  key_columns text[];
  encoder_tokens int;
  dimensions int;
  tokens int;
  shared int;
  configuration text;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using errcode = 'PGE03',
      message = format('a collection cannot be created in a %s transaction: its snapshot may miss rows', current_setting('transaction_isolation')),
      hint = 'Create it in a read committed transaction.';
  end if;
  if exists (select from pgembed.collection as c where c.name = create_collection.name) then
    raise exception using errcode = 'PGE03',
      message = format('collection %L exists already', create_collection.name),
      hint = format('Drop it first: select pgembed.drop_collection(%L);', create_collection.name);
  end if;
  if coalesce(create_collection.name, '') = '' or octet_length(create_collection.name) > 56 then
    raise exception using errcode = 'PGE03',
      message = 'the name of a collection has 1 to 56 bytes',
      hint = format('It has %s.', octet_length(create_collection.name));
  end if;
  encoder_tokens := (pgembed.encoder_named(create_collection.encoder)).max_tokens;
  dimensions := (pgembed.encoder_named(create_collection.encoder)).dimensions;
  key_columns := pgembed.source_key(create_collection.source, create_collection.key);
  perform pgembed.check_content(create_collection.source, create_collection.content);
  perform pgembed.check_expiry(create_collection.source, create_collection.expires);
  if coalesce(create_collection.capture, '') not in ('origin', 'always') then
    raise exception using errcode = 'PGE03',
      message = format('capture is %L; it is origin, or always where rows arrive by replication', create_collection.capture);
  end if;
  begin
    select c.oid::regconfig::text into configuration
    from pg_ts_config as c
    where c.oid = create_collection.language::regconfig;
  exception when undefined_object or invalid_schema_name or invalid_name or syntax_error or feature_not_supported then
    configuration := null;
  end;
  if configuration is null then
    raise exception using errcode = 'PGE03',
      message = format('there is no text search configuration %L', create_collection.language),
      hint = 'List them with \dF in psql; ''simple'' suits every language.';
  end if;
  if create_collection.max_tokens not between 8 and encoder_tokens then
    raise exception using errcode = 'PGE03',
      message = format('max_tokens is %s; encoder %L takes 8 to %s', create_collection.max_tokens, create_collection.encoder, encoder_tokens);
  end if;
  tokens := coalesce(create_collection.max_tokens, encoder_tokens);
  shared := coalesce(create_collection.overlap, tokens / 8);
  if shared not between 0 and tokens - 1 then
    raise exception using errcode = 'PGE03',
      message = format('overlap is %s; neighbouring chunks of %s tokens share 0 to %s', shared, tokens, tokens - 1);
  end if;
  insert into pgembed.collection (name, encoder, source, key_columns, content_columns, max_tokens, overlap, language, expires_column, capture)
  values (
    create_collection.name, create_collection.encoder, create_collection.source, key_columns, create_collection.content,
    tokens, shared, configuration, create_collection.expires, create_collection.capture
  )
  returning * into made;
  perform pgembed.check_source(made);
  perform pgembed.create_side_table(made, dimensions);
  perform pgembed.create_wrappers(made);
  perform pgembed.attach_triggers(made);
  perform pgembed.mark_stale(made.name);
  if (select r.relrowsecurity from pg_class as r where r.oid = made.source) then
    raise warning using
      message = format('%s has row-level security; the copy of its text in pgembed_data.%I has none', made.source, made.name),
      hint = 'Whoever may select from that table reads all of it: give it policies too, as docs/operations.md shows.';
  end if;
end
$$;
comment on function pgembed.create_collection(text, regclass, text[], text, text[], int, int, text, text, text) is
  'Makes the rows of a table searchable: content names the columns whose text is embedded; key defaults to the primary key. Existing rows become stale; pgembed sync, or a worker, embeds them. expires names a column that says when a row leaves search; capture always takes what arrives by logical replication too.';

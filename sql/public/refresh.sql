create or replace function pgembed.refresh(collection text)
returns table (documents bigint, lexemes bigint, average_length float8, rewritten bigint)
language plpgsql
set search_path from current
as $$
#variable_conflict use_column
declare
  refreshed pgembed.collection := pgembed.collection_named(refresh.collection);
  weighed_with float8;
  words bigint;
begin
  -- Writers wait before they begin: none writes weights of the old length, or is counted twice or not at all.
  execute format('lock table pgembed_data.%I in share row exclusive mode', refreshed.name);
  insert into pgembed.lexical_statistics as s (collection, average_length) values (refreshed.name, 1)
  on conflict on constraint lexical_statistics_pkey do nothing;
  select s.average_length into weighed_with from pgembed.lexical_statistics as s where s.collection = refreshed.name;
  delete from pgembed.lexeme as l where l.collection = refreshed.name;
  insert into pgembed.lexeme (collection, lexeme, documents)
  select refreshed.name, t.word, t.ndoc from ts_stat(format('select lexemes from pgembed_data.%I', refreshed.name)) as t;
  get diagnostics lexemes = row_count;
  execute format('select count(*), coalesce(sum(pgembed.lexical_length(lexemes)), 0) from pgembed_data.%I', refreshed.name) into documents, words;
  average_length := greatest(words::float8 / nullif(documents, 0), 1);
  if average_length is null or abs(average_length / weighed_with - 1) <= 0.1 then
    average_length := weighed_with;
  end if;
  execute format('update pgembed_data.%I set bm25 = pgembed.bm25_weights(lexemes, $1) where bm25 is null or $2', refreshed.name)
  using average_length, average_length <> weighed_with;
  get diagnostics rewritten = row_count;
  update pgembed.lexical_statistics as s
  set documents = refresh.documents, length = words, average_length = refresh.average_length, refreshed_at = now()
  where s.collection = refreshed.name;
  return next;
end
$$;
comment on function pgembed.refresh(text) is
  'Counts the words of a collection anew, deleted chunks no longer among them, and weighs the chunks again where the average length moved by more than 10 %, or weights are missing. The first build of the index does it.';

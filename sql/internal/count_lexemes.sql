create or replace function pgembed.count_lexemes(collection text, changed tsvector[], step int) returns void
language plpgsql
set search_path from current
as $$
begin
  if coalesce(cardinality(count_lexemes.changed), 0) = 0 then
    return;
  end if;
  -- This row first: whoever writes or refreshes the same collection waits here, and so deadlocks nowhere.
  update pgembed.lexical_statistics as s
  set documents = greatest(s.documents + count_lexemes.step * cardinality(count_lexemes.changed), 0),
    length = greatest(s.length + count_lexemes.step * (select sum(pgembed.lexical_length(c.lexemes)) from unnest(count_lexemes.changed) as c (lexemes)), 0)
  where s.collection = count_lexemes.collection;
  insert into pgembed.lexeme as old (collection, lexeme, documents)
  select count_lexemes.collection, t.lexeme, count_lexemes.step * count(*)
  from unnest(count_lexemes.changed) as c (lexemes)
  cross join lateral unnest(c.lexemes) as t
  group by t.lexeme
  on conflict on constraint lexeme_pkey do update set documents = greatest(old.documents + excluded.documents, 0);
end
$$;
comment on function pgembed.count_lexemes(text, tsvector[], int) is
  'Adds chunks to the document frequencies of a collection (step 1), or takes them off (step -1).';

create or replace function pgembed.average_length(collection pgembed.collection) returns float8
language plpgsql
set search_path from current
as $$
declare
  known float8;
begin
  select s.average_length into known from pgembed.lexical_statistics as s where s.collection = (average_length.collection).name;
  if found then
    return known;
  end if;
  -- Of the first batch, until the first index is built or the statistics are refreshed.
  insert into pgembed.lexical_statistics as s (collection, average_length)
  select
    (average_length.collection).name,
    greatest(coalesce(avg(pgembed.lexical_length(to_tsvector((average_length.collection).language::regconfig, n.content))), 1), 1)
  from pg_temp.pgembed_staging as n
  on conflict on constraint lexical_statistics_pkey do update set average_length = s.average_length
  returning s.average_length into known;
  return known;
end
$$;
comment on function pgembed.average_length(pgembed.collection) is
  'Words of an average chunk that the BM25 weights of a collection are computed with; taken from the staged chunks at first.';

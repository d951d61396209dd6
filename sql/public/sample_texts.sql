create or replace function pgembed.sample_texts(collection text, texts int default 2000, characters int default 80, seed int default 0) returns setof text
language plpgsql stable
set search_path from current
as $$
declare
  sampled pgembed.collection := pgembed.collection_named(sample_texts.collection);
begin
  perform pgembed.check_number('the number of texts', to_jsonb(sample_texts.texts), 1, 1000000);
  perform pgembed.check_number('the number of characters', to_jsonb(sample_texts.characters), 1, 1000000);
  return query execute format(
    'select substr(d.content, 1 + ((''x'' || left(d.hash, 8))::bit(32)::bigint %% greatest(length(d.content) - $3 + 1, 1))::int, $3)
     from (select t.content, md5(t.content_hash || int4send($1)) as hash, t.chunk_no from pgembed_data.%I as t order by 2, 3 limit $2) as d
     order by d.hash, d.chunk_no', sampled.name)
  using sample_texts.seed, sample_texts.texts, sample_texts.characters;
end
$$;
comment on function pgembed.sample_texts(text, int, int, int) is
  'So many characters of so many chunks, chunks and places chosen by a hash of their text, the same ones for a seed: what a LoRA expert learns to leave where it is.';

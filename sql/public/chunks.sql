create or replace function pgembed.chunks(collection text) returns table (key text, chunk_no int, embedding halfvec)
language plpgsql stable
set search_path from current
set datestyle = 'ISO, MDY'
set timezone = 'UTC'
set intervalstyle = 'postgres'
set bytea_output = 'hex'
set extra_float_digits = 1
as $$
declare
  listed pgembed.collection := pgembed.collection_named(chunks.collection);
begin
  return query execute format(
    'select k.key, d.chunk_no, d.embedding from pgembed_data.%I as d cross join lateral (select %s as key) as k order by 1, 2',
    listed.name, pgembed.key_text(pgembed.side_key(listed), 'd'));
end
$$;
comment on function pgembed.chunks(text) is
  'Every chunk of a collection with its embedding, the chunks of one row together: what training and evaluation read.';

create or replace function pgembed.side_column(name text) returns text
language sql immutable parallel safe
return case
  when side_column.name in ('chunk_no', 'content', 'span', 'content_hash', 'embedding', 'lexemes', 'bm25', 'encoded_at')
    then 'source_' || side_column.name
  else side_column.name
end;
comment on function pgembed.side_column(text) is
  'Name that a key column of the source has in the side table: its own, unless the side table uses that itself.';

create or replace function pgembed.vector_bytes(embedding vector) returns bytea
language sql immutable strict parallel safe
return vector_send(vector_bytes.embedding);
comment on function pgembed.vector_bytes(vector) is
  'A vector in pgvector''s binary format, whatever types the client has registered.';

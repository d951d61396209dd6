create or replace function pgembed.as_bytes(embedding halfvec) returns bytea
language sql immutable strict parallel safe
return halfvec_send(embedding);
comment on function pgembed.as_bytes(halfvec) is
  'A vector in pgvector''s binary format, whatever types the client has registered.';

create or replace function pgembed.as_bytes(embedding vector) returns bytea
language sql immutable strict parallel safe
return vector_send(embedding);
comment on function pgembed.as_bytes(vector) is
  'A vector in pgvector''s binary format, whatever types the client has registered.';

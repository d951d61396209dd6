create or replace function pgembed.halfvec_bytes(embedding halfvec) returns bytea
language sql immutable strict parallel safe
return halfvec_send(halfvec_bytes.embedding);
comment on function pgembed.halfvec_bytes(halfvec) is
  'A halfvec in pgvector''s binary format, whatever types the client has registered.';

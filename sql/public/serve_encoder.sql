create or replace function pgembed.serve_encoder(encoder text) returns void
language plpgsql
set search_path from current
as $$
begin
  perform pgembed.encoder_named(serve_encoder.encoder);
  perform pg_advisory_lock_shared(726104, hashtext(serve_encoder.encoder));
end
$$;
comment on function pgembed.serve_encoder(text) is
  'Says that this session encodes query texts with an encoder, by an advisory lock that it holds until it ends.';

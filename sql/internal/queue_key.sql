create or replace function pgembed.queue_key(key text) returns text
language sql immutable strict parallel safe
-- An entry of a btree has at most 2704 bytes.
return case when octet_length(queue_key.key) <= 2000 then queue_key.key else 'md5:' || md5(queue_key.key) end;
comment on function pgembed.queue_key(text) is
  'The key under which a row stands in the queue or among the failures: itself, or its md5 where it is too long to be queued.';

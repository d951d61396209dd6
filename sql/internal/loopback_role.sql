create or replace function pgembed.loopback_role() returns text
language sql stable parallel safe
-- Of at most 63 bytes; a database's name may be as long itself.
return 'pgembed_loopback_' || case
  when octet_length(current_database()) <= 46 then current_database()
  else md5(current_database())
end;
comment on function pgembed.loopback_role() is
  'The role that sessions of this database connect to it with a second time.';

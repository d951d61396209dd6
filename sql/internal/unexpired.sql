create or replace function pgembed.unexpired(collection pgembed.collection, alias text) returns text
language sql immutable parallel safe
return case
  when (unexpired.collection).expires_column is not null
    then format('(%1$I.%2$I is null or %1$I.%2$I > now())', unexpired.alias, (unexpired.collection).expires_column)
end;
comment on function pgembed.unexpired(pgembed.collection, text) is
  'SQL condition that a source row under an alias has not expired; null where the rows of the collection stay.';

create or replace function pgembed.scaled(one vector, factor float8) returns vector
language sql immutable strict parallel safe
return array_fill(scaled.factor::real, array[vector_dims(scaled.one)])::vector * scaled.one;
comment on function pgembed.scaled(vector, float8) is
  'A vector times a number.';

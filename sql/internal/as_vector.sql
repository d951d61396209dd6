create or replace function pgembed.as_vector(numbers real[]) returns vector
language sql immutable strict parallel safe
return numbers::vector;
comment on function pgembed.as_vector(real[]) is
  'An array as a vector, wherever pgvector is installed: for clients that send arrays.';

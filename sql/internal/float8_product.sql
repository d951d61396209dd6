create or replace function pgembed.float8_product(a vector, b vector) returns float8
language sql immutable strict parallel safe
begin atomic
  select sum(t.x * t.y)
  from unnest(float8_product.a::real[]::float8[], float8_product.b::real[]::float8[]) as t (x, y);
end;
comment on function pgembed.float8_product(vector, vector) is
  'Inner product in double precision, for routing: pgvector''s is single.';

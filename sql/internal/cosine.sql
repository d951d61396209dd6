create or replace function pgembed.cosine(a vector, b vector) returns float8
language sql immutable strict parallel safe
begin atomic
  select sum(t.x * t.y) / sqrt(nullif(sum(t.x * t.x) * sum(t.y * t.y), 0))
  from unnest(cosine.a::real[]::float8[], cosine.b::real[]::float8[]) as t (x, y);
end;
comment on function pgembed.cosine(vector, vector) is
  'Cosine similarity in double precision, for routing: pgvector''s is single, and a temperature magnifies its error.';

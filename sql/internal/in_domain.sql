create or replace function pgembed.in_domain(encoder text, fallback jsonb, query vector) returns float8
language plpgsql stable
set search_path from current
as $$
declare
  threshold float8 := (in_domain.fallback ->> 'threshold')::float8;
  width float8 := (in_domain.fallback ->> 'width')::float8;
  similarity float8;
begin
  if threshold is not null then
    similarity := (select avg(n.similarity) from pgembed.nearest_references(in_domain.encoder, in_domain.query, 3) as n);
  end if;
  if similarity is null then
    return 1;
  end if;
  -- Products of shares that are no longer above 0 are errors: no share is below e^-100.
  return 1 / (1 + exp(greatest(-100, least(100, (threshold - similarity) / width))));
end
$$;
comment on function pgembed.in_domain(text, jsonb, vector) is
  'Share, from 0 to 1, of an answer that the router keeps; the rest goes to its fallback. By the mean similarity to the 3 nearest references.';

create or replace function pgembed.domain_probabilities(
  encoder text,
  kind text,
  parameters jsonb,
  query vector
) returns table (domain text, probability float8)
language plpgsql stable
set search_path from current
as $$
#variable_conflict use_column
declare
  temperature float8 := coalesce((domain_probabilities.parameters ->> 'temperature')::float8, 0.05);
  length float8 := sqrt(pgembed.float8_product(domain_probabilities.query, domain_probabilities.query));
begin
  -- Products of shares that are no longer above 0 are errors: no power is below e^-100.
  if domain_probabilities.kind = 'knn' then
    return query
    with near as (
      select n.domain, n.similarity, max(n.similarity) over () as best
      from pgembed.nearest_references(domain_probabilities.encoder, domain_probabilities.query,
        coalesce((domain_probabilities.parameters ->> 'neighbours')::int, 10)) as n
    ),
    vote as (select v.domain, exp(greatest((v.similarity - v.best) / temperature, -100)) as power from near as v)
    select v.domain, sum(v.power) / sum(sum(v.power)) over () from vote as v group by v.domain;
    return;
  end if;
  return query
  with scored as (
    select d.domain, pgembed.float8_product(d.direction, domain_probabilities.query) / length + d.bias as score
    from pgembed.router_domain as d
    where d.encoder = domain_probabilities.encoder
  ),
  best as (select s.domain, s.score, max(s.score) over () as most from scored as s),
  power as (select b.domain, exp(greatest((b.score - b.most) / temperature, -100)) as power from best as b)
  select p.domain, p.power / sum(p.power) over () from power as p;
end
$$;
comment on function pgembed.domain_probabilities(text, text, jsonb, vector) is
  'How likely a query is of each domain that a router tells apart: by its linear function, or by its neighbours.';

create or replace function pgembed.route(
  encoder text,
  query vector,
  mode text default 'soft'
) returns table (expert text, weight float8, score float8)
language plpgsql stable
set search_path from current
as $$
#variable_conflict use_column
declare
  dimensions int := (pgembed.encoder_named(route.encoder)).dimensions;
  kind text;
  parameters jsonb;
  kept float8;
begin
  if route.query is null or vector_dims(route.query) <> dimensions then
    raise exception using errcode = 'PGE03',
      message = format('the query vector has %s dimensions; encoder %L makes %s', coalesce(vector_dims(route.query)::text, 'no'), route.encoder, dimensions);
  elsif vector_norm(route.query) = 0 then
    raise exception using errcode = 'PGE03', message = 'the query vector is zero: it has no direction to route by';
  end if;
  if coalesce(route.mode, '') not in ('soft', 'hard') then
    perform pgembed.check_mode(route.encoder, route.mode);
    return query select route.mode, 1::float8, null::float8;
    return;
  end if;
  select r.kind, r.parameters into kind, parameters from pgembed.router as r where r.encoder = route.encoder;
  kept := pgembed.in_domain(route.encoder, parameters -> 'fallback', route.query);
  return query
  with head as materialized (
    select s.expert, s.share, s.score
    from pgembed.router_shares(route.encoder, coalesce(kind, 'pilot'), coalesce(parameters, '{}'), route.query) as s
  ),
  heavy as (
    select h.expert, h.share, max(h.share::numeric) over () * coalesce((parameters ->> 'minimum_share')::numeric, 0) as needed from head as h
  ),
  top as (
    select h.expert, h.share / sum(h.share) over () as share
    from heavy as h
    -- What differs by rounding alone is a tie.
    where round(h.share::numeric, 12) >= round(h.needed, 12)
    order by round(h.share::numeric, 12) desc, h.expert collate "C"
    limit (parameters ->> 'top')::int
  ),
  head_weight as (
    select t.expert, t.share / sum(t.share) over () as weight from top as t
  ),
  standing as (
    select t.key as expert, t.value::text::float8 as weight
    from jsonb_each(parameters -> 'standing') as t
    join pgembed.expert as e on e.encoder = route.encoder and e.name = t.key and e.state = 'active'
  ),
  free as (select greatest(1 - coalesce(sum(s.weight), 0), 0) as weight from standing as s),
  refuge as (
    select t.key as expert, t.value::text::float8 / sum(t.value::text::float8) over () as weight
    from jsonb_each(parameters -> 'fallback' -> 'weights') as t
    join pgembed.expert as e on e.encoder = route.encoder and e.name = t.key and e.state = 'active'
    where t.value::text::float8 > 0
  ),
  chosen as (
    select s.expert, s.weight * kept as weight from standing as s where route.mode = 'soft'
    union all
    select h.expert, h.weight * f.weight * kept from head_weight as h cross join free as f where route.mode = 'soft'
    union all
    -- Nothing to route to: what the standing experts leave goes to base.
    select 'base', f.weight * kept from free as f where route.mode = 'soft' and not exists (select from head)
    union all
    select r.expert, r.weight * (1 - kept) from refuge as r where route.mode = 'soft'
    union all
    -- The experts that should answer queries out of domain are retired, or none was named.
    select 'base', 1 - kept where route.mode = 'soft' and not exists (select from refuge)
    union all
    (select first.expert, 1 from (
      select h.expert, 1 as part, round(h.share::numeric, 12) as weight from head as h where round(kept::numeric, 9) >= 0.5
      union all
      select r.expert, 1, round(r.weight::numeric, 12) from refuge as r where round(kept::numeric, 9) < 0.5
      union all
      select 'base', 2, 0
    ) as first
    where route.mode = 'hard'
    order by first.part, first.weight desc, first.expert collate "C"
    limit 1)
  )
  select c.expert, sum(c.weight), max(h.score)
  from chosen as c
  left join head as h on h.expert = c.expert
  group by c.expert
  having sum(c.weight) > 0
  order by 2 desc, c.expert collate "C";
end
$$;
comment on function pgembed.route(text, vector, text) is
  'The experts that answer a query, given its base embedding: weights sum to 1. hard takes the expert with the largest share, the first by name among equals; soft mixes those that the router''s top and minimum_share keep with the standing experts; an expert''s name takes that one.';

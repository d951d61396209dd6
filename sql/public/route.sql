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
  temperature float8;
  standing jsonb;
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
  select (r.parameters ->> 'temperature')::float8, r.parameters -> 'standing' into temperature, standing
  from pgembed.router as r where r.encoder = route.encoder;
  -- The defaults that every client has.
  temperature := coalesce(temperature, 0.05);
  return query
  with similarity as (
    -- The mean over an expert's pilots of the cosine similarity: RouterRetriever, algorithm 1.
    select p.expert, avg(1 - (p.centroid <=> route.query)) as score
    from pgembed.pilot as p
    join pgembed.expert as e on e.encoder = p.encoder and e.name = p.expert and e.state = 'active'
    where p.encoder = route.encoder
    group by p.expert
  ),
  best as (select max(s.score) as score from similarity as s),
  first as (select s.expert from similarity as s order by s.score desc, s.expert collate "C" limit 1),
  fixed as (
    select t.key as expert, t.value::text::float8 as weight
    from jsonb_each(standing) as t
    join pgembed.expert as e on e.encoder = route.encoder and e.name = t.key and e.state = 'active'
    where route.mode = 'soft'
  ),
  share as (select greatest(1 - coalesce(sum(f.weight), 0), 0) as free from fixed as f),
  softmax as (
    select p.expert, p.power / sum(p.power) over () as part
    from (
      -- exp raises an error where its result is no longer above 0.
      select s.expert, exp(greatest((s.score - best.score) / temperature, -700)) as power
      from similarity as s cross join best
      where route.mode = 'soft'
    ) as p
  ),
  chosen as (
    select f.expert, f.weight from fixed as f
    union all
    select s.expert, s.part * share.free from softmax as s cross join share
    union all
    select first.expert, 1 from first where route.mode = 'hard'
    union all
    -- Nothing to route to: what the standing experts leave goes to base.
    select 'base', case route.mode when 'soft' then share.free else 1 end from share where not exists (select from similarity)
  )
  select c.expert, sum(c.weight), max(s.score)
  from chosen as c
  left join similarity as s on s.expert = c.expert
  group by c.expert
  having sum(c.weight) > 0
  order by 2 desc, c.expert collate "C";
end
$$;
comment on function pgembed.route(text, vector, text) is
  'The experts that answer a query, given its base embedding: weights sum to 1. hard takes the expert whose pilots are nearest, soft mixes them with the standing experts, an expert''s name takes that one.';

create or replace function pgembed.router_shares(
  encoder text,
  kind text,
  parameters jsonb,
  query vector
) returns table (expert text, share float8, score float8)
language plpgsql stable
set search_path from current
as $$
#variable_conflict use_column
declare
  -- The defaults that every client has.
  temperature float8 := coalesce((router_shares.parameters ->> 'temperature')::float8, 0.05);
  aggregate text := coalesce(router_shares.parameters ->> 'aggregate', 'mean');
  posterior text := case router_shares.kind when 'utility' then coalesce(router_shares.parameters ->> 'posterior', 'lda') else router_shares.kind end;
begin
  if router_shares.kind = 'pilot' then
    return query
    with similarity as (
      -- The mean over an expert's pilots of the cosine similarity: RouterRetriever, algorithm 1.
      select p.expert, case aggregate when 'max' then max(p.cosine) else avg(p.cosine) end as score
      from (
        select p.expert, pgembed.cosine(p.centroid, router_shares.query) as cosine
        from pgembed.pilot as p
        where p.encoder = router_shares.encoder
      ) as p
      join pgembed.expert as e on e.encoder = router_shares.encoder and e.name = p.expert and e.state = 'active'
      group by p.expert
    ),
    power as (
      -- Products of shares that are no longer above 0 are errors: no power is below e^-100.
      select s.expert, s.score, exp(greatest((s.score - max(s.score) over ()) / temperature, -100)) as power from similarity as s
    )
    select p.expert, p.power / sum(p.power) over (), p.score from power as p;
  elsif router_shares.kind in ('fixed', 'uniform') then
    return query
    select e.name, w.weight / sum(w.weight) over (), null::float8
    from pgembed.expert as e
    cross join lateral (
      select case router_shares.kind when 'uniform' then 1 else (router_shares.parameters -> 'weights' ->> e.name)::float8 end as weight
    ) as w
    where e.encoder = router_shares.encoder and e.state = 'active' and w.weight > 0;
  else
    return query
    with domain as (
      select d.domain, d.probability
      from pgembed.domain_probabilities(router_shares.encoder, posterior, router_shares.parameters, router_shares.query) as d
    ),
    arm as (
      select u.domain, u.expert, u.share, u.gain, sum(u.share) over (partition by u.domain) as total,
        row_number() over (partition by u.domain order by u.gain desc nulls last, u.expert collate "C") as place
      from pgembed.utility as u
      join pgembed.expert as e on e.encoder = u.encoder and e.name = u.expert and e.state = 'active'
      where u.encoder = router_shares.encoder
    ),
    part as (
      select a.domain, a.expert, a.share / a.total as share from arm as a where a.share > 0
      union all
      -- Those that had the domain are retired: the best of the others has it, if better than base.
      select a.domain, a.expert, 1 from arm as a where a.total = 0 and a.place = 1 and a.gain > 0
    )
    select coalesce(a.expert, 'base'), sum(d.probability * coalesce(a.share, 1)), null::float8
    from domain as d
    -- A domain without experts is answered by base.
    left join part as a on a.domain = d.domain
    group by 1;
  end if;
end
$$;
comment on function pgembed.router_shares(text, text, jsonb, vector) is
  'Share of each expert in the answer to a query, before standing experts and the fallback; the score is a similarity where experts are compared directly.';

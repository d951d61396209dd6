create or replace function pgembed.router_statistics(collection text)
returns table (domain text, arm text, successes float8, trials float8, rate float8)
language plpgsql stable
set search_path from current
as $$
declare
  half_life float8;
begin
  perform pgembed.collection_named(router_statistics.collection);
  half_life := extract(epoch from coalesce(
    (select f.half_life from pgembed.feedback as f where f.collection = router_statistics.collection), interval '7 days'));
  return query
  with search as (
    select c.search, min(c.domain) as domain, bool_or(c.clicked) as clicked, (array_agg(c.weights))[1] as weights,
      greatest(extract(epoch from now() - min(c.logged_at)), 0)::float8 / half_life as half_lives
    from pgembed.click as c
    where c.collection = router_statistics.collection and c.weights is not null
    group by c.search
  ),
  arms as (
    select s.domain, w.key as arm, coalesce(sum(counted.trials) filter (where s.clicked), 0) as successes, sum(counted.trials) as trials
    from search as s
    cross join lateral jsonb_each_text(s.weights) as w
    -- What is next to nothing counts nothing: products of such numbers are out of the range of float8, which is an error.
    cross join lateral (
      select case when w.value::numeric < 1e-30 or s.half_lives > 200 then 0 else w.value::float8 * power(0.5, s.half_lives) end as trials
    ) as counted
    group by s.domain, w.key
  )
  select a.domain, a.arm, a.successes, a.trials, a.successes / nullif(a.trials, 0)
  from arms as a
  order by 1, 2;
end
$$;
comment on function pgembed.router_statistics(text) is
  'For each domain and arm, how many logged searches it answered, by its weight in them, and in how many of these a hit was opened; a search counts half after the half-life of pgembed.set_feedback, and nothing after 200 of them. Weights below 1e-30 count as 0.';

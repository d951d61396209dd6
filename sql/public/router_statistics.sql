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
      power(0.5, least(greatest(extract(epoch from now() - min(c.logged_at)), 0) / half_life, 1000))::float8 as age_weight
    from pgembed.click as c
    where c.collection = router_statistics.collection and c.weights is not null
    group by c.search
  ),
  arms as (
    select s.domain, w.key as arm,
      sum(w.value::float8 * s.age_weight) filter (where s.clicked) as successes,
      sum(w.value::float8 * s.age_weight) as trials
    from search as s
    cross join lateral jsonb_each_text(s.weights) as w
    group by s.domain, w.key
  )
  select a.domain, a.arm, coalesce(a.successes, 0), a.trials, coalesce(a.successes, 0) / nullif(a.trials, 0)
  from arms as a
  order by 1, 2;
end
$$;
comment on function pgembed.router_statistics(text) is
  'For each domain and arm, how many logged searches it answered, by its weight in them, and in how many of these a hit was opened; a search counts half after the half-life of pgembed.set_feedback.';

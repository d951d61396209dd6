create or replace function pgembed.click_judgments(
  collection text,
  min_clicks int default 1,
  clip float8 default 0.1
) returns table (query text, key text, grade int, split text, domain text)
language plpgsql stable
set search_path from current
as $$
begin
  perform pgembed.collection_named(click_judgments.collection);
  if (click_judgments.min_clicks >= 1) is not true then
    raise exception using errcode = 'PGE03',
      message = format('min_clicks is %s; the least is 1', coalesce(click_judgments.min_clicks::text, 'null'));
  elsif (click_judgments.clip > 0 and click_judgments.clip <= 1) is not true then
    raise exception using errcode = 'PGE03',
      message = format('clip is %s; propensities below it count as it: above 0, at most 1', coalesce(click_judgments.clip::text, 'null'));
  end if;
  return query
  with clicked as (
    select c.query_hash, min(c.query) as query, c.key, sum(1 / greatest(c.propensity, click_judgments.clip)) as weight,
      (array_agg(c.domain order by c.search desc))[1] as domain
    from pgembed.click as c
    where c.collection = click_judgments.collection and c.clicked
    group by c.query_hash, c.key
    having count(*) >= click_judgments.min_clicks
  )
  select k.query, k.key,
    ceil(round((3 * k.weight / max(k.weight) over (partition by k.query))::numeric, 9))::int,
    cut.split,
    first_value(k.domain) over (partition by k.query order by k.weight desc, k.key)
  from clicked as k
  -- The share that pgembed.judgments.seeded_share gives the text of a dev query is below 0.2.
  cross join lateral (
    select case when substring(sha256('\x3000'::bytea || convert_to(k.query, 'UTF8')) for 8) < '\x3333333333333333' then 'dev' else 'train' end as split
  ) as cut
  -- Nothing is learned from what is measured by hand.
  where not exists (
    select from pgembed.judgment as j
    where j.collection = click_judgments.collection and j.query_hash = k.query_hash
      and (j.split = 'test' or (j.split = 'dev' and cut.split = 'train'))
  )
  order by 1, 3 desc, 2;
end
$$;
comment on function pgembed.click_judgments(text, int, float8) is
  'Judgments from clicks: each click counts 1 / propensity, since hits far down are seen seldom, but propensities below clip count as clip. The grade is 3 for the row of a query with the greatest sum, and 1 to 3 in proportion for the others. A fifth of the queries, by a hash of their text, is dev, the others are train. Queries that pgembed.judgment has in the split test of this collection are left out, and those of its split dev are never train.';

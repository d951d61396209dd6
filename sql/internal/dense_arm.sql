create or replace function pgembed.dense_arm(
  collection pgembed.collection,
  query halfvec,
  needed int,
  depth int,
  planned record,
  out keys text[],
  out scores float8[],
  out complete boolean,
  out plan text,
  out detail text
)
language plpgsql stable
set search_path from current
as $$
declare
  tried text;
  matched bigint;
  wanted int := dense_arm.depth;
begin
  if not planned.indexed or planned.few then
    -- Twice the threshold, because an estimate that errs by less is not worth a second try.
    select e.* into keys, scores, matched
    from pgembed.dense_exact(collection, query, dense_arm.depth, planned.predicate, case when planned.indexed then 2 * planned.threshold + 1 end) as e;
    if not planned.indexed or matched <= 2 * planned.threshold then
      complete := cardinality(keys) < dense_arm.depth;
      plan := 'exact';
      detail := format('%s matching chunks compared', matched);
      return;
    end if;
    tried := format('more than %s chunks match; ', 2 * planned.threshold);
  end if;
  -- Beyond what one index scan gives well, comparing everything is the better plan.
  while wanted <= 8000 loop
    select h.* into keys, scores, matched
    from pgembed.dense_hnsw(collection, query, wanted, planned.predicate, planned.ef, greatest(planned.given, wanted)) as h;
    if cardinality(keys) >= dense_arm.needed and matched >= wanted then
      complete := false;
      plan := 'hnsw';
      detail := format('%s%s chunks from the index, ef_search %s', tried, matched, least(greatest(planned.ef, wanted), 1000));
      return;
    end if;
    tried := format('%s%s of the %s nearest chunks match; ', tried, matched, greatest(planned.given, wanted));
    -- Long documents fill the list with chunks of few rows: look further while there are more.
    exit when matched < wanted;
    wanted := 4 * wanted;
  end loop;
  select e.* into keys, scores, matched from pgembed.dense_exact(collection, query, dense_arm.depth, planned.predicate, null) as e;
  complete := cardinality(keys) < dense_arm.depth;
  plan := 'exact';
  detail := format('%s%s matching chunks compared', tried, matched);
end
$$;
comment on function pgembed.dense_arm(pgembed.collection, halfvec, int, int, record) is
  'Keys and cosine similarities of the nearest matching rows, as planned: at least as many as are needed or all there are (complete), up to depth.';

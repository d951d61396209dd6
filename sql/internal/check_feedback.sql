create or replace function pgembed.check_feedback(collection text, query text, weights jsonb) returns float8
language plpgsql stable
set search_path from current
as $$
declare
  eta float8;
begin
  perform pgembed.collection_named(check_feedback.collection);
  select f.eta into eta from pgembed.feedback as f where f.collection = check_feedback.collection and f.enabled;
  if not found then
    raise exception using errcode = 'PGE03',
      message = format('feedback on collection %L is off: nothing is logged', check_feedback.collection),
      hint = format('Queries are personal data; where you may keep them: select pgembed.set_feedback(%L);', check_feedback.collection);
  end if;
  perform pgembed.check_query_text(check_feedback.query);
  if jsonb_typeof(check_feedback.weights) <> 'object' or exists (
    select from jsonb_each(case jsonb_typeof(check_feedback.weights) when 'object' then check_feedback.weights end) as w
    where jsonb_typeof(w.value) <> 'number' or w.value::text::numeric not between 0 and 1 + 1e-9 -- rounding
  ) then
    raise exception using errcode = 'PGE03',
      message = format('weights are %s', left(check_feedback.weights::text, 100)),
      hint = 'They are an object of each arm and its weight from 0 to 1, as in {"base": 0.4, "readers": 0.6}.';
  end if;
  return eta;
end
$$;
comment on function pgembed.check_feedback(text, text, jsonb) is
  'Raises PGE03 unless feedback on the collection is on and query and arm weights can be logged; returns its eta.';

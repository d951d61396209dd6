create or replace function pgembed.forget_clicks(collection text, before timestamptz) returns bigint
language plpgsql
set search_path from current
as $$
declare
  forgotten bigint;
begin
  perform pgembed.collection_named(forget_clicks.collection);
  if forget_clicks.before is null then
    raise exception using errcode = 'PGE03',
      message = 'before is null: nothing is forgotten',
      hint = format('Everything: select pgembed.forget_clicks(%L, ''infinity'');', forget_clicks.collection);
  end if;
  delete from pgembed.click as c
  where c.collection = forget_clicks.collection and c.logged_at < forget_clicks.before;
  get diagnostics forgotten = row_count;
  return forgotten;
end
$$;
comment on function pgembed.forget_clicks(text, timestamptz) is
  'Deletes what was logged of a collection before a time; returns how many hits. Judgments that were made of them stay.';

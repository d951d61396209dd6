create or replace function pgembed.check_query_text(query text) returns void
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  if query is null then
    raise exception using errcode = 'PGE03', message = 'the query text is null', hint = 'Give a text; a query vector that is null needs its type: null::vector.';
  elsif query !~ '\S' then
    raise exception using errcode = 'PGE03', message = 'the query text is empty', hint = 'Leave blank texts out.';
  end if;
end
$$;
comment on function pgembed.check_query_text(text) is
  'Raises PGE03 for a text that no encoder takes.';

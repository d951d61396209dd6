create or replace function pgembed.check_content(source regclass, content text[]) returns void
language plpgsql stable parallel safe
set search_path from current
as $$
begin
  if coalesce(cardinality(check_content.content), 0) = 0 or array_position(check_content.content, null) is not null then
    raise exception using errcode = 'PGE03',
      message = format('the content of a collection is one or more columns, not %s', coalesce(check_content.content::text, 'null')),
      hint = format('The columns of %s are %s.', check_content.source, pgembed.column_names(check_content.source));
  end if;
end
$$;
comment on function pgembed.check_content(regclass, text[]) is
  'Raises PGE03 unless the content names columns; whether they exist is for check_source to say.';

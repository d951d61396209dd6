create or replace function pgembed.check_expiry(source regclass, expires text) returns void
language plpgsql stable parallel safe
set search_path from current
as $$
declare
  found_type text;
begin
  select format_type(a.atttypid, null) into found_type
  from pg_attribute as a
  where a.attrelid = check_expiry.source and a.attname = check_expiry.expires and a.attnum > 0 and not a.attisdropped;
  if check_expiry.expires is not null and found_type is null then
    raise exception using errcode = 'PGE05',
      message = format('%s has no column %I to expire by', check_expiry.source, check_expiry.expires),
      hint = format('Its columns are %s.', pgembed.column_names(check_expiry.source));
  elsif found_type <> 'timestamp with time zone' then
    raise exception using errcode = 'PGE03',
      message = format('column %I of %s is of type %s; rows expire by a timestamp with time zone', check_expiry.expires, check_expiry.source, found_type),
      hint = 'A type without its time zone would mean another moment in each session.';
  end if;
end
$$;
comment on function pgembed.check_expiry(regclass, text) is
  'Raises PGE05 or PGE03 unless rows of a table can expire by this column.';

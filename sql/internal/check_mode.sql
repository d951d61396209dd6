create or replace function pgembed.check_mode(encoder text, mode text) returns void
language plpgsql stable parallel safe
set search_path from current
as $$
begin
  if coalesce(check_mode.mode, '') not in ('soft', 'hard')
    and not exists (select from pgembed.expert as e where e.encoder = check_mode.encoder and e.name = check_mode.mode and e.state = 'active') then
    raise exception using errcode = 'PGE01',
      message = format('encoder %L has no active expert %L, and there is no such mode', check_mode.encoder, check_mode.mode),
      hint = format('Modes are soft, hard; experts are %s.',
        (select string_agg(e.name, ', ' order by e.name) from pgembed.expert as e where e.encoder = check_mode.encoder and e.state = 'active'));
  end if;
end
$$;
comment on function pgembed.check_mode(text, text) is
  'Raises PGE01 for a mode that is neither soft, hard nor an active expert.';

create or replace function pgembed.retire_expert(encoder text, name text) returns void
language plpgsql
set search_path from current
as $$
begin
  if retire_expert.name = 'base' then
    raise exception using errcode = 'PGE03', message = 'base cannot be retired: it is the encoder itself';
  end if;
  update pgembed.expert as e set state = 'retired'
  where e.encoder = retire_expert.encoder and e.name = retire_expert.name;
  if not found then
    raise exception using errcode = 'PGE01',
      message = format('encoder %L has no expert %L', retire_expert.encoder, retire_expert.name),
      hint = 'List them: select name, state from pgembed.expert;';
  end if;
end
$$;
comment on function pgembed.retire_expert(text, text) is
  'Takes an expert out of routing; its row, artifact and pilots stay. Undo: update pgembed.expert set state = ''active''.';

create or replace function pgembed.trigger_problem(collection pgembed.collection) returns text
language plpgsql stable
set search_path from current
as $$
declare
  -- Bits of pg_trigger.tgtype; replication is seen by triggers that are enabled always, deletes and truncates included.
  wanted int := 4 | 16 | case collection.capture when 'always' then 8 | 32 else 0 end;
  attached int;
  enabled int;
begin
  select coalesce(bit_or(t.kind), 0),
    coalesce(bit_or(t.kind) filter (where t.enabled = 'A' or t.enabled = 'O' and collection.capture = 'origin'), 0)
  into attached, enabled
  from pgembed.our_triggers(collection) as t;
  if attached & wanted <> wanted then
    return format('%s lacks a trigger of ours, so some changes are not noted', collection.source);
  elsif enabled & wanted <> wanted then
    return format('a trigger of ours on %s is disabled%s, so some changes are not noted',
      collection.source, case collection.capture when 'always' then ' or does not fire for replication' else '' end);
  end if;
  return null;
end
$$;
comment on function pgembed.trigger_problem(pgembed.collection) is
  'What keeps the changes of a source table from being noted; null where nothing does.';

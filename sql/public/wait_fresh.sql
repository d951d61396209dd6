create or replace function pgembed.wait_fresh(collection text) returns void
language plpgsql
set search_path from current
as $$
declare
  awaited pgembed.collection := pgembed.collection_named(wait_fresh.collection);
  patience interval := pgembed.timeout_ms() * interval '1 millisecond';
  started timestamptz := clock_timestamp();
  newest bigint;
  waiting bigint;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using errcode = 'PGE03',
      message = format('fresh cannot be had in a %s transaction: its snapshot does not see what is embedded meanwhile', current_setting('transaction_isolation')),
      hint = 'Search in a read committed transaction, or without fresh.';
  end if;
  if exists (
    select from pgembed.change as c
    where c.collection = awaited.name and pgembed.is_uncommitted(c.xmin)
  ) then
    raise exception using errcode = 'PGE03',
      message = format('this transaction changed rows of collection %L, which nobody else sees before it commits', awaited.name),
      hint = 'Commit, then search with fresh => true.';
  end if;
  select max(c.id) into newest from pgembed.change as c where c.collection = awaited.name;
  loop
    select
      (select count(*) from pgembed.change as c where c.collection = awaited.name and c.id <= newest)
      + (select count(*) from pgembed.stale as t where t.collection = awaited.name and t.priority < 2 and t.enqueued_at <= started)
    into waiting;
    exit when waiting = 0;
    if awaited.paused_at is not null then
      raise exception using errcode = 'PGE06',
        message = format('collection %L is paused, and changes of it wait', awaited.name),
        hint = format('Let it go on: select pgembed.resume(%L);', awaited.name);
    elsif cardinality(pgembed.living_claimers()) = 0 and not pg_is_in_recovery() then
      raise exception using errcode = 'PGE06',
        message = format('changes of collection %L wait, and no worker is connected to embed them', awaited.name),
        hint = 'Start one: pgembed worker. Or search without fresh.';
    elsif clock_timestamp() > started + patience then
      raise exception using errcode = 'PGE06',
        message = format('changes of collection %L are not in step after %s', awaited.name, patience),
        hint = 'pgembed status says what waits. Set pgembed.timeout_ms to wait longer, or search without fresh.';
    end if;
    perform pg_sleep(0.005);
  end loop;
end
$$;
comment on function pgembed.wait_fresh(text) is
  'Waits until every edit that was committed before this call is in step, backfills excepted; PGE06 after pgembed.timeout_ms.';

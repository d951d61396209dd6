create or replace function pgembed.wait_fresh(collection text) returns void
language plpgsql
set search_path from current
as $$
declare
  awaited pgembed.collection := pgembed.collection_named(wait_fresh.collection);
  patience interval := pgembed.timeout_ms() * interval '1 millisecond';
  started timestamptz := clock_timestamp();
  -- Of what is visible now; on a standby the clock may be behind the primary's.
  horizon timestamptz;
  newest bigint;
  waiting bigint;
  looks int := 0;
begin
  if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
    raise exception using errcode = 'PGE03',
      message = format('fresh cannot be had in a %s transaction: its snapshot does not see what is embedded meanwhile', current_setting('transaction_isolation')),
      hint = 'Search in a read committed transaction, or without fresh.';
  end if;
  if exists (select from pgembed.change as c where c.collection = awaited.name and pgembed.is_uncommitted(c.xmin))
    or exists (select from pgembed.stale as t where t.collection = awaited.name and t.priority < 2 and pgembed.is_uncommitted(t.xmin)) then
    raise exception using errcode = 'PGE03',
      message = format('this transaction changed rows of collection %L, which nobody else sees before it commits', awaited.name),
      hint = 'Commit, then search with fresh => true.';
  end if;
  select max(c.id), greatest(max(c.changed_at), started) into newest, horizon from pgembed.change as c where c.collection = awaited.name;
  select greatest(max(t.enqueued_at), horizon, started) into horizon from pgembed.stale as t where t.collection = awaited.name and t.priority < 2;
  loop
    select
      (select count(*) from pgembed.change as c where c.collection = awaited.name and c.id <= newest)
      + (select count(*) from pgembed.stale as t where t.collection = awaited.name and t.priority < 2 and t.enqueued_at <= horizon)
    into waiting;
    exit when waiting = 0;
    if clock_timestamp() > started + patience then
      raise exception using errcode = 'PGE06',
        message = format('changes of collection %L are not in step after %s', awaited.name, patience),
        hint = 'pgembed status says what waits. Set pgembed.timeout_ms to wait longer, or search without fresh.';
    elsif looks % 100 = 0 then
      if (pgembed.collection_named(awaited.name)).paused_at is not null then
        raise exception using errcode = 'PGE06',
          message = format('collection %L is paused, and changes of it wait', awaited.name),
          hint = format('Let it go on: select pgembed.resume(%L);', awaited.name);
      elsif not pg_is_in_recovery() and cardinality(pgembed.living_claimers()) = 0 then
        raise exception using errcode = 'PGE06',
          message = format('changes of collection %L wait, and no worker is connected to embed them', awaited.name),
          hint = 'Start one: pgembed worker. Or search without fresh.';
      end if;
    end if;
    looks := looks + 1;
    perform pg_sleep(0.005);
  end loop;
end
$$;
comment on function pgembed.wait_fresh(text) is
  'Waits until every edit that was committed before this call is in step, backfills excepted; PGE06 after pgembed.timeout_ms.';

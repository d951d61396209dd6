create or replace function pgembed.is_uncommitted(writer xid) returns boolean
language sql stable
begin atomic
  -- Only the own transaction sees rows of one in progress; its savepoints have later numbers than it has itself.
  with own as (
    select
      t.number,
      (is_uncommitted.writer::text::bigint - t.number % 4294967296 + 4294967296) % 4294967296 as steps
    from (values (pg_catalog.pg_current_xact_id_if_assigned()::text::bigint)) as t (number)
  )
  select coalesce(case when o.steps < 2147483648 then pg_catalog.pg_xact_status((o.number + o.steps)::text::xid8) = 'in progress' end, false)
  from own as o;
end;
comment on function pgembed.is_uncommitted(xid) is
  'Whether a row that this session sees, by its xmin, was written by its own transaction, or within a savepoint of it.';

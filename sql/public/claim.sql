create or replace function pgembed.claim(
  collection text,
  claimer int,
  max_rows int default 256,
  lease interval default '10 minutes'
) returns table (key text, version bigint, present boolean, content text, hashes bytea[])
language plpgsql
set search_path from current
set datestyle = 'ISO, MDY'
set timezone = 'UTC'
set intervalstyle = 'postgres'
set bytea_output = 'hex'
set extra_float_digits = 1
as $$
#variable_conflict use_column
declare
  claimed pgembed.collection := pgembed.collection_named(claim.collection);
  living int[];
  keys text[];
  versions bigint[];
  -- Claims that nobody finished: of three the row is claimed alone, so that it takes no others along; ten are enough.
  suspicious constant int := 3;
  hopeless constant int := 10;
begin
  -- A hidden row would look deleted, and lose its vectors.
  if row_security_active(claimed.source) then
    raise exception using errcode = 'PGE05',
      message = format('row-level security may hide rows of %s from %I', claimed.source, current_user),
      hint = format('Embed as a role that sees every row: the owner of the table, or one with bypassrls (alter role %I bypassrls).', current_user);
  end if;
  -- One claim at a time: whoever has claimed a row that is seen below lives by this list, and no
  -- row is locked that another session is about to write.
  perform pgembed.lock_queue(claimed.name);
  -- Read again: whoever changes the collection holds that lock.
  claimed := pgembed.collection_named(claim.collection);
  perform pgembed.check_source(claimed);
  if claimed.paused_at is not null then
    return;
  end if;
  living := pgembed.living_claimers();
  perform pgembed.expand_changes(claimed.name, 16 * claim.max_rows);
  with given_up as (
    delete from pgembed.stale as q
    where q.collection = claimed.name and q.attempts >= hopeless
      and (q.leased_until is null or q.leased_until < clock_timestamp() or q.claimed_by <> all (living))
    returning q.key, q.attempts
  )
  insert into pgembed.failure as f (collection, key, error, attempts)
  select claimed.name, g.key, format('claimed %s times and never finished: each time the worker died, or let the lease run out', g.attempts), g.attempts
  from given_up as g
  on conflict on constraint failure_pkey do update
  set error = excluded.error, attempts = excluded.attempts, failed_at = now();
  -- Materialized, because a nested loop over it would lock another max_rows rows each time.
  with free as materialized (
    select q.key, q.attempts, q.priority, q.enqueued_at from pgembed.stale as q
    where q.collection = claimed.name
      and (q.leased_until is null or q.leased_until < clock_timestamp() or q.claimed_by <> all (living))
    order by q.priority, q.enqueued_at, q.key
    limit claim.max_rows
    for update skip locked
  ),
  ranked as (
    select f.key, f.attempts >= suspicious as is_alone, row_number() over (order by f.priority, f.enqueued_at, f.key) as place from free as f
  ),
  taken as (
    select r.key from ranked as r where not r.is_alone and (select not x.is_alone from ranked as x where x.place = 1) or r.is_alone and r.place = 1
  ),
  marked as (
    update pgembed.stale as t
    set claimed_by = claim.claimer, leased_until = clock_timestamp() + claim.lease, attempts = t.attempts + 1
    from taken as n
    where t.collection = claimed.name and t.key = n.key
    returning t.key, t.version
  )
  select coalesce(array_agg(m.key), '{}'), coalesce(array_agg(m.version), '{}') into keys, versions from marked as m;
  -- A statement of its own, with a newer snapshot than the versions: text older than its version
  -- would pass the fence, text newer than it is marked stale again.
  return query execute format(
    'select m.key, m.version, s.present is not null, s.content, s.hashes
     from unnest($1, $2) as m (key, version)
     left join lateral (
       select true as present, %1$s as content,
         array(select d.content_hash from pgembed_data.%2$I as d where %3$s order by d.chunk_no) as hashes
       from %4$s as r
       where %5$s%6$s
     ) as s on true',
    pgembed.content_text(claimed.content_columns, 'r'),
    claimed.name,
    pgembed.side_join(claimed, 'd', 'r'),
    claimed.source,
    pgembed.key_match(claimed, claimed.key_columns, 'r', 'm.key'),
    coalesce(' and ' || pgembed.unexpired(claimed, 'r'), '')
  ) using keys, versions;
end
$$;
comment on function pgembed.claim(text, int, int, interval) is
  'Takes stale rows for a session to embed, edits first, then the oldest, never one that another session is at: their text, and the hashes of the chunks that exist. Nothing while the collection is paused. Commit at once: claims of one collection wait for each other.';

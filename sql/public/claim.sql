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
  side_key text[] := pgembed.side_key(claimed);
begin
  perform pgembed.check_source(claimed);
  -- A hidden row would look deleted, and lose its vectors.
  if row_security_active(claimed.source) then
    raise exception using errcode = 'PGE05',
      message = format('row-level security may hide rows of %s from %I', claimed.source, current_user),
      hint = format('Embed as a role that sees every row: the owner of the table, or one with bypassrls (alter role %I bypassrls).', current_user);
  end if;
  return query execute format(
    'with marked as materialized (
       update pgembed.stale as t
       set claimed_by = $2, leased_until = clock_timestamp() + $4, attempts = t.attempts + 1
       from (
         select q.key from pgembed.stale as q
         where q.collection = $1
           and (q.claimed_by is null or q.leased_until < clock_timestamp() or q.claimed_by <> all ($5))
         order by q.enqueued_at, q.key
         limit $3
         for update skip locked
       ) as free
       where t.collection = $1 and t.key = free.key
       returning t.key, t.version
     )
     select m.key, m.version, s.present is not null, s.content, s.hashes
     from marked as m
     left join lateral (
       select true as present, %1$s as content,
         array(select d.content_hash from pgembed_data.%2$I as d where %3$s order by d.chunk_no) as hashes
       from %4$s as r
       where %5$s
     ) as s on true',
    pgembed.content_text(claimed.content_columns, 'r'),
    claimed.name,
    pgembed.side_join(claimed, 'd', 'r'),
    claimed.source,
    pgembed.key_match(claimed, claimed.key_columns, 'r', 'm.key')
  ) using claimed.name, claim.claimer, claim.max_rows, claim.lease, pgembed.living_claimers();
end
$$;
comment on function pgembed.claim(text, int, int, interval) is
  'Takes stale rows for a session to embed, oldest first, never one that another session is at: their text, and the hashes of the chunks that exist. Commit at once; no lock is kept.';

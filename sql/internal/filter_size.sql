create or replace function pgembed.filter_size(filter jsonb) returns bigint
language sql stable parallel safe
begin atomic
  with recursive parts (name, value, depth) as (
    select
      e.key,
      e.value,
      0
    from jsonb_each(case jsonb_typeof(filter_size.filter) when 'object' then filter_size.filter else '{}' end) as e (key, value)
    union all
    select
      e.key,
      e.value,
      p.depth + 1
    from parts as p
    cross join lateral jsonb_array_elements(
      case
        when p.name = 'not' then jsonb_build_array(p.value)
        when p.name in ('and', 'or') and jsonb_typeof(p.value) = 'array' then p.value
        else '[]'
      end
    ) as v (value)
    cross join lateral jsonb_each(case jsonb_typeof(v.value) when 'object' then v.value else '{}' end) as e (key, value)
    -- What is deeper is refused anyway.
    where p.depth <= 16
  )
  select coalesce(sum(case jsonb_typeof(p.value) when 'object' then greatest((select count(*) from jsonb_object_keys(p.value)), 1) else 1 end), 0)::bigint
  from parts as p
  where p.name not in ('and', 'or', 'not');
end;
comment on function pgembed.filter_size(jsonb) is
  'How many conditions a filter has: operators on columns and paths, at any depth that is allowed.';

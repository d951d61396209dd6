create or replace function pgembed.as_key(value anyelement) returns text
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
set datestyle = 'ISO, MDY'
set timezone = 'UTC'
set intervalstyle = 'postgres'
set bytea_output = 'hex'
set extra_float_digits = 1
as $$
  -- Not by ::text, for the reason that key_text gives.
  select format('%s', as_key.value)
$$;
comment on function pgembed.as_key(anyelement) is
  'A key column as text, the same whatever the session''s settings are.';

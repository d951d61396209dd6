create or replace function pgembed.check_weights(what text, weights jsonb) returns void
language plpgsql immutable parallel safe
set search_path from current
as $$
begin
  if jsonb_typeof(check_weights.weights) is distinct from 'object'
    -- Double precision cannot hold all that json can.
    or jsonb_path_exists(check_weights.weights, 'strict $.* ? (@.type() != "number" || @ < 0 || @ > 1000000 || (@ > 0 && @ < 1e-30))') then
    raise exception using errcode = 'PGE03',
      message = format('%s are numbers from 0 to 1e6, by expert; unlike %s', check_weights.what, coalesce(check_weights.weights::text, 'null'));
  end if;
end
$$;
comment on function pgembed.check_weights(text, jsonb) is 'Raises PGE03 for what are no weights of experts.';

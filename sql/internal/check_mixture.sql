create or replace function pgembed.check_mixture(what text, weights jsonb) returns void
language plpgsql immutable parallel safe
set search_path from current
as $$
begin
  perform pgembed.check_weights(check_mixture.what, check_mixture.weights);
  if jsonb_path_exists(check_mixture.weights, 'strict $.* ? (@ > 0)') is not true then
    raise exception using errcode = 'PGE03', message = format('%s are not all 0, unlike %s', check_mixture.what, check_mixture.weights),
      hint = 'For example {"base": 1}.';
  end if;
end
$$;
comment on function pgembed.check_mixture(text, jsonb) is 'Raises PGE03 for weights of experts that cannot be scaled to 1 in sum.';

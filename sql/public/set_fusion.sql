create or replace function pgembed.set_fusion(
  collection text,
  kind text,
  lexical_weight float8 default 0.3,
  metrics jsonb default '{}'
) returns void
language plpgsql
set search_path from current
as $$
begin
  perform pgembed.collection_named(set_fusion.collection);
  if set_fusion.kind is null then
    delete from pgembed.fusion as f where f.collection = set_fusion.collection;
    return;
  elsif set_fusion.kind not in ('zscore', 'minmax', 'rrf') then
    raise exception using errcode = 'PGE03', message = format('there is no fusion %L', set_fusion.kind), hint = 'Fusions are zscore, minmax, rrf.';
  elsif (set_fusion.lexical_weight between 0 and 1) is not true then
    raise exception using errcode = 'PGE03',
      message = format('lexical_weight is %s; it lies between 0 and 1', coalesce(set_fusion.lexical_weight::text, 'null'));
  end if;
  insert into pgembed.fusion as f (collection, kind, lexical_weight, metrics)
  values (set_fusion.collection, set_fusion.kind, set_fusion.lexical_weight, coalesce(set_fusion.metrics, '{}'))
  on conflict on constraint fusion_pkey do update
  set kind = excluded.kind, lexical_weight = excluded.lexical_weight, metrics = excluded.metrics, fitted_at = now();
end
$$;
comment on function pgembed.set_fusion(text, text, float8, jsonb) is
  'How hybrid searches of a collection fuse their arms from now on: zscore, minmax or rrf, with the weight of the lexical arm; metrics say where that comes from. Null goes back to z-scores with weight 0.3.';

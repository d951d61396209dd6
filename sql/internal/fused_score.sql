create or replace function pgembed.fused_score(
  kind text,
  lexical_weight float8,
  dense float8,
  lexical float8,
  dense_rank bigint,
  lexical_rank bigint,
  spread float8[]
) returns float8
language sql immutable parallel safe
-- spread: centre and width of the dense, then of the lexical scores; an arm without width says nothing.
return case fused_score.kind
  -- Reciprocal rank fusion with k = 60 (Cormack, Clarke and Buettcher 2009).
  when 'rrf' then coalesce(1.0 / (60 + fused_score.dense_rank), 0) + coalesce(1.0 / (60 + fused_score.lexical_rank), 0)
  else (1 - fused_score.lexical_weight) * coalesce((fused_score.dense - fused_score.spread[1]) / nullif(fused_score.spread[2], 0), 0)
    + fused_score.lexical_weight * coalesce((fused_score.lexical - fused_score.spread[3]) / nullif(fused_score.spread[4], 0), 0)
end;
comment on function pgembed.fused_score(text, float8, float8, float8, bigint, bigint, float8[]) is
  'Score of a row in a hybrid search from both arms'' scores: weighted z-scores (zscore) or scores between the least and the greatest (minmax), or reciprocal ranks (rrf).';

"""The gate: an expert serves only where it surely helps, and harms nothing in general."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pgembed.bootstrap import Interval, paired_bootstrap
from pgembed.trained import Trained

GATE_QUERIES = 30
"""Dev queries below which a bootstrap interval says too little to accept an expert."""

ALLOWED_LOSS = 0.01
"""Macro nDCG@10 that general queries may lose by an expert: 1 point."""


@dataclass(frozen=True, slots=True)
class GateDecision:
    """Whether a trained expert may serve, and why."""

    accepted: bool
    interval: Interval
    """Of the dev nDCG@10 gain over base."""
    reason: str


def gate(
    trained: Trained[Any],
    *,
    level: float = 0.95,
    general: float | None = None,
    allowed_loss: float = ALLOWED_LOSS,
) -> GateDecision:
    """Accept an expert only when it beats the base on dev with significance.

    Where the scores are those of the queries that also chose the best step, as ``train_linear``
    returns them, the interval leans to the expert's side: score other queries first.

    Args:
        trained: what the training returned.
        level: of the paired bootstrap interval, stratified by problem.
        general: change of macro nDCG@10 on general queries under the expert; None where there
            are none, and then nothing is asked of them.
        allowed_loss: how far ``general`` may be below 0.

    Returns:
        Accepted when there are at least 30 dev queries, the interval lies above 0, and general
        queries do not lose more than is allowed.
    """
    interval = paired_bootstrap(
        trained.base_scores, trained.expert_scores, level=level, strata=trained.strata
    )
    queries = len(trained.base_scores)
    gain = (
        f"nDCG@10 changes by {interval.mean:+.3f} "
        f"({level:.0%} interval {interval.low:+.3f} to {interval.high:+.3f}) "
        f"on {queries} dev queries"
    )
    if queries < GATE_QUERIES:
        return GateDecision(False, interval, f"{gain}: fewer than {GATE_QUERIES} decide nothing")
    if interval.low <= 0:
        return GateDecision(False, interval, f"{gain}: not surely better than the base")
    if general is not None and general < -allowed_loss:
        lost = f"general queries change by {general:+.3f}, beyond the {-allowed_loss:+.3f} allowed"
        return GateDecision(False, interval, f"{gain}: better than the base, but {lost}")
    return GateDecision(True, interval, f"{gain}: better than the base")

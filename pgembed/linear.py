"""Training of linear experts with numpy alone, and the gate that refuses what does not help."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgembed.bootstrap import Interval, paired_bootstrap
from pgembed.contrastive import TrainingProblem
from pgembed.descent import LinearSettings, Pair, descend, initial_weights
from pgembed.errors import InputError, TrainingError
from pgembed.linear_expert import LinearExpert, LinearStack, apply_all, stack, unit
from pgembed.metrics import ndcg_of

__all__ = [
    "GateDecision",
    "LinearExpert",
    "LinearSettings",
    "LinearStack",
    "TrainedLinear",
    "TrainingProblem",
    "TrainingStep",
    "apply_all",
    "gate",
    "stack",
    "train_linear",
    "unit",
]

GATE_QUERIES = 30
"""Dev queries below which a bootstrap interval says too little to accept an expert."""


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """Progress: what one step did."""

    step: int
    steps: int
    loss: float
    dev_ndcg: float | None
    """Macro dev nDCG@10 where this step looked at dev."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainedLinear:
    """A linear expert and how it came about."""

    expert: LinearExpert
    curve: tuple[tuple[int, float], ...]
    """Step and macro dev nDCG@10; step 0 is the base."""
    best_step: int
    base_scores: NDArray[np.float64]
    """Dev nDCG@10 of the base for each dev query, problem after problem."""
    expert_scores: NDArray[np.float64]
    """The same queries under the expert."""
    strata: NDArray[np.intp]
    """Number of the problem of each dev query."""
    steps: int
    """Steps taken before training stopped."""
    seconds: float


@dataclass(frozen=True, slots=True)
class GateDecision:
    """Whether a trained expert may serve, and why."""

    accepted: bool
    interval: Interval
    """Of the dev nDCG@10 gain over base."""
    reason: str


def train_linear(
    problems: Sequence[TrainingProblem],
    settings: LinearSettings | None = None,
    *,
    on_step: Callable[[TrainingStep], None] | None = None,
) -> TrainedLinear:
    """Train a linear expert on the judged queries of one domain, or of several.

    InfoNCE over candidates that the batch shares, AdamW with the one-cycle schedule; A is drawn
    from N(0, 1 / dimensions) and B starts at zero, so that step 0 is the base. Documents stay as
    they are. Several problems give the general expert: each step draws one of them, and dev
    counts each alike. The expert that is best on dev by exact ranking is kept, base included.

    Args:
        problems: training and dev queries over corpora in one vector space.
        settings: how to train; the defaults when None.
        on_step: called after every step.

    Returns:
        The best expert with its dev scores; equal seeds give equal experts on one machine.

    Raises:
        TrainingError: there is no problem to train on, or the loss is not finite.
        InputError: problems differ in dimensions.
    """
    started, settings = time.perf_counter(), settings or LinearSettings()
    _check(problems)
    steps, every = _scaled(settings, len(problems))
    generator = np.random.default_rng(settings.seed)
    start = initial_weights(problems[0].queries.shape[1], settings.rank, generator)
    base = best = _look(problems, 0, start)
    curve, step = [(0, base.macro)], 0
    for step, loss, weights in descend(problems, settings, start, steps, generator):
        looked = step % every == 0 or step == steps
        if looked:
            look = _look(problems, step, weights)
            curve.append((step, look.macro))
            best = look if look.macro > best.macro + settings.minimum_gain else best
        if on_step is not None:
            on_step(TrainingStep(step, steps, loss, curve[-1][1] if looked else None))
        if looked and step - best.step >= settings.patience * every:
            break
    return TrainedLinear(
        expert=best.expert,
        curve=tuple(curve),
        best_step=best.step,
        base_scores=np.concatenate(base.scores),
        expert_scores=np.concatenate(best.scores),
        strata=np.repeat(np.arange(len(problems)), [len(scores) for scores in base.scores]),
        steps=step,
        seconds=time.perf_counter() - started,
    )


def gate(trained: TrainedLinear, *, level: float = 0.95) -> GateDecision:
    """Accept an expert only when it beats the base on dev with significance.

    Where the scores are those of the queries that also chose the best step, as ``train_linear``
    returns them, the interval leans to the expert's side: score other queries first.

    Args:
        trained: what ``train_linear`` returned.
        level: of the paired bootstrap interval, stratified by problem.

    Returns:
        Accepted when there are at least 30 dev queries and the interval lies above 0.
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
    return GateDecision(True, interval, f"{gain}: better than the base")


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """An expert at one step, with the dev scores of each problem."""

    step: int
    expert: LinearExpert
    scores: list[NDArray[np.float64]]

    @property
    def macro(self) -> float:
        return float(np.mean([scores.mean() for scores in self.scores]))


def _look(problems: Sequence[TrainingProblem], step: int, weights: Pair) -> _Look:
    expert = LinearExpert(*weights)
    scores = [ndcg_of(expert.apply(p.dev_queries), p.corpus, p.dev_relevant) for p in problems]
    return _Look(step, expert, scores)


def _scaled(settings: LinearSettings, problems: int) -> tuple[int, int]:
    scale = float(np.sqrt(problems))
    return round(settings.steps * scale), round(settings.evaluate_every * scale)


def _check(problems: Sequence[TrainingProblem]) -> None:
    if not problems:
        raise TrainingError("there is no problem to train on")
    sizes = {problem.queries.shape[1] for problem in problems}
    if len(sizes) != 1:
        raise InputError(f"problems of one vector space share dimensions, not {sorted(sizes)}")

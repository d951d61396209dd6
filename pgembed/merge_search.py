"""The grid over weights on which a merged expert is searched, whatever kind of expert it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np

from pgembed.errors import FingerprintError, InputError
from pgembed.linear_expert import LinearExpert
from pgembed.lora_expert import LoraExpert
from pgembed.task_vectors import Task, factored, simplex, slerp_weights, soup, ties

Method = Literal["soup", "slerp", "ties"]

PAIR_STEPS, TRIPLE_STEPS = 10, 5
"""Weights of two experts are multiples of 1/10, those of three at once multiples of 1/5."""

SCALES = tuple(round(0.5 + 0.1 * number, 1) for number in range(11))
"""What TIES may scale its result by."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """An expert that takes part in a merge."""

    name: str
    kind: str
    fingerprint: str
    """Of the encoder that it was trained on."""
    sha256: str
    domain: str | None
    expert: Any


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """A merged expert and where on the grid it was found."""

    expert: Any
    weights: tuple[float, ...]
    """Of each source's task vector; for TIES, which takes no weights, all alike."""
    scale: float
    """What TIES scaled its result by; 1 for the other methods."""
    discarded: float
    """Share of the energy that the rank could not hold."""
    grid: tuple[tuple[tuple[float, ...], float, float], ...]
    """Weights, scale and probe score of every candidate."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    task: Task
    weights: tuple[float, ...]
    scale: float = 1.0

    @property
    def evenness(self) -> float:
        """What decides between equal scores: near to equal weights, near to scale 1."""
        return -float(np.var(self.weights)) - abs(self.scale - 1)


@dataclass(frozen=True, slots=True)
class Kind:
    """How experts of a kind become task vectors and come back."""

    task: Callable[[Any], Task]
    build: Callable[[Mapping[str, tuple[Any, Any]], int], Any]


def _linear_task(expert: LinearExpert) -> Task:
    return {"": np.matmul(expert.A, expert.B, dtype=np.float64)}


def _lora_task(expert: LoraExpert) -> Task:
    return {
        slot: expert.scale * np.matmul(expert.A[slot], expert.B[slot], dtype=np.float64)
        for slot in expert.A
    }


def _lora(factors: Mapping[str, tuple[Any, Any]], rank: int) -> LoraExpert:
    A, B = ({slot: pair[side] for slot, pair in factors.items()} for side in (0, 1))
    return LoraExpert(A, B, alpha=rank)


KINDS: Mapping[str, Kind] = {
    "linear": Kind(_linear_task, lambda factors, rank: LinearExpert(*factors[""])),
    "lora": Kind(_lora_task, _lora),
}


def merge(
    sources: Sequence[Source],
    probe: Callable[[Any], float],
    *,
    method: Method = "soup",
    rank: int | None = None,
    on_candidate: Progress | None = None,
) -> Merged:
    """Search a grid over the interpolation space for the merged expert that a probe likes best.

    "Self Positioning" (arXiv 2410.15035) descends in that space; a grid of eleven points is nearly
    as good, and it is the same each time. Two experts have eleven weights, three 21, and more are
    merged pair by pair in the order given, as are more than two by slerp. TIES takes all at once
    and searches its scale. What the probe scores is the candidate at its final rank.

    Args:
        sources: two or more, of one kind and one base model.
        probe: the higher the better; equal scores go to the more even weights.
        method: how task vectors are joined.
        rank: of the merged expert; the greatest of the sources' when None.
        on_candidate: called with how many candidates were scored, and how many there are.

    Raises:
        InputError: there is one source, one named twice, or they differ in kind.
        FingerprintError: they differ in their base model.
    """
    kind = common_kind(sources, method)
    rank = max(source.expert.rank for source in sources) if rank is None else rank
    tasks = [kind.task(source.expert) for source in sources]
    grid: list[tuple[tuple[float, ...], float, float]] = []

    def build(candidate: _Candidate) -> tuple[Any, float]:
        factors, discarded = factored(candidate.task, rank)
        return kind.build(factors, rank), discarded

    def score(candidate: _Candidate) -> float:
        value = probe(build(candidate)[0])
        grid.append((candidate.weights, candidate.scale, value))
        if on_candidate is not None:
            on_candidate(len(grid), _candidates(len(tasks), method))
        return value

    best = _search(tasks, method, score)
    expert, discarded = build(best)
    return Merged(expert, best.weights, best.scale, discarded, tuple(grid))


def common_kind(sources: Sequence[Source], method: str) -> Kind:
    """What the sources are, or the error of ``merge`` for sources that cannot be merged."""
    names = [source.name for source in sources]
    if len(set(names)) < max(2, len(names)):
        raise InputError(f"a merge takes two or more different experts, not {names}")
    if method not in get_args(Method):
        raise InputError(f"there is no method {method!r}", hint="Methods are soup, slerp, ties.")
    for first, second in pairwise(sources):
        if first.kind != second.kind:
            raise InputError(
                f"expert {first.name!r} is {first.kind}, {second.name!r} is {second.kind}:"
                " experts of one kind can be merged"
            )
        if first.fingerprint != second.fingerprint:
            raise FingerprintError(
                f"expert {first.name!r} was trained on model {first.fingerprint[:12]},"
                f" {second.name!r} on {second.fingerprint[:12]}",
                hint="Task vectors add up only where they start at the same weights: train both"
                " on one encoder.",
            )
    return KINDS[sources[0].kind]


def _search(
    tasks: Sequence[Task], method: Method, score: Callable[[_Candidate], float]
) -> _Candidate:
    if method == "ties":
        even = (1 / len(tasks),) * len(tasks)
        return _best((_Candidate(ties(tasks, scale=s), even, s) for s in SCALES), score)
    if method == "soup" and len(tasks) == 3:
        grid = simplex(3, TRIPLE_STEPS)
        return _best((_Candidate(soup(tasks, weights), weights) for weights in grid), score)
    merged = _Candidate(tasks[0], (1.0,))
    for task in tasks[1:]:
        merged = _best(_pairs(merged, task, method), score)
    return merged


def _pairs(merged: _Candidate, task: Task, method: Method) -> Iterator[_Candidate]:
    for first, second in simplex(2, PAIR_STEPS):
        a, b = (first, second)
        if method == "slerp":
            a, b = slerp_weights(merged.task, task, second)
        weights = (*[a * weight for weight in merged.weights], b)
        yield _Candidate(soup([merged.task, task], (a, b)), weights)


def _best(candidates: Iterator[_Candidate], score: Callable[[_Candidate], float]) -> _Candidate:
    return max(candidates, key=lambda candidate: (round(score(candidate), 9), candidate.evenness))


def _candidates(tasks: int, method: Method) -> int:
    if method == "ties":
        return len(SCALES)
    if method == "soup" and tasks == 3:
        return sum(1 for _ in simplex(3, TRIPLE_STEPS))
    return (PAIR_STEPS + 1) * (tasks - 1)

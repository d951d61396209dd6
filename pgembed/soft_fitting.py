"""Soft routing fitted on dev: its temperature and the standing weights of base and general."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgembed.contrastive import expand
from pgembed.errors import InputError, NotFoundError
from pgembed.metrics import (
    Corpus,
    best_of_chunks,
    check_documents,
    ideal_gain,
    ndcg_of_scorings,
    top_documents,
)
from pgembed.model import Vectors
from pgembed.pilot_router import BASE, Pilot, PilotRouter, RouterParameters

GENERAL = "general"
"""The expert that is trained on every domain."""

TEMPERATURES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
STANDING: Mapping[str, Sequence[float]] = {
    BASE: (0.0, 0.1, 0.2, 0.3),
    GENERAL: (0.0, 0.2, 0.3, 0.4, 0.5),
}
"""Standing weights that are tried, for the arms that there are."""


@dataclass(frozen=True, slots=True, eq=False)
class RoutingProblem:
    """Judged dev queries of one domain, as every arm sees them.

    Raises:
        InputError: the base is not among the arms, or an arm has another number of queries.
    """

    name: str
    """The domain."""
    vectors: Mapping[str, Vectors]
    """Unit query vectors of each arm, ``base`` included: float32, shape (n, dimensions)."""
    relevant: Sequence[Mapping[int, int]]
    """Grades by document number, for each query."""
    corpus: Corpus

    def __post_init__(self) -> None:
        counts = {arm: len(vectors) for arm, vectors in self.vectors.items()}
        if BASE not in counts or set(counts.values()) != {len(self.relevant)}:
            raise InputError(
                f'domain "{self.name}" needs query vectors of "{BASE}" and {len(self.relevant)} '
                f"of each arm, not {counts}"
            )


@dataclass(frozen=True, slots=True)
class SoftSetting:
    """Router parameters with what they reach on dev."""

    parameters: RouterParameters
    ndcg: Mapping[str, float]
    """nDCG@10 by domain."""
    macro: float
    """Mean over the domains."""


@dataclass(frozen=True, slots=True)
class SoftFit:
    """The best setting of soft routing, and all that were tried."""

    parameters: RouterParameters
    table: tuple[SoftSetting, ...]


def fit_soft(
    pilots: Sequence[Pilot],
    problems: Sequence[RoutingProblem],
    *,
    temperatures: Sequence[float] = TEMPERATURES,
    standing: Mapping[str, Sequence[float]] = STANDING,
    candidates: int = 100,
    k: int = 10,
) -> SoftFit:
    """Choose temperature and standing weights of soft routing by macro dev nDCG.

    Each query ranks only the union of every arm's first ``candidates`` documents, scored exactly
    there. A document below rank 100 in every arm does not reach rank 10 of a mix of them for any
    practical purpose, so the figures are those of exact ranking; relevant documents outside the
    union still count in the ideal. Among equal settings the first of the grid wins.

    Args:
        pilots: the library.
        problems: one for each domain; each counts alike.
        temperatures: to try.
        standing: weights to try by arm; an arm that a problem lacks is left out.
        candidates: documents that each arm nominates for each query.
        k: ranks that count.

    Returns:
        The best parameters and the whole table, in the order of the grid.

    Raises:
        InputError: there is nothing to fit on, or no setting whose weights sum to at most 1.
        NotFoundError: an expert has pilots but no query vectors in a problem.
    """
    if not problems:
        raise InputError("soft routing needs the dev queries of at least one domain")
    routers = [
        PilotRouter(pilots, parameters) for parameters in _grid(problems, temperatures, standing)
    ]
    if not routers:
        raise InputError("no combination of standing weights sums to at most 1")
    reached = {
        problem.name: _reached(problem, routers, candidates, k)
        for problem in sorted(problems, key=lambda problem: problem.name)
    }
    table = []
    for number, router in enumerate(routers):
        ndcg = {name: float(values[number]) for name, values in reached.items()}
        table.append(SoftSetting(router.parameters, ndcg, sum(ndcg.values()) / len(ndcg)))
    return SoftFit(max(table, key=lambda setting: setting.macro).parameters, tuple(table))


def _grid(
    problems: Sequence[RoutingProblem],
    temperatures: Sequence[float],
    standing: Mapping[str, Sequence[float]],
) -> Iterator[RouterParameters]:
    arms = [arm for arm in standing if all(arm in problem.vectors for problem in problems)]
    for temperature in temperatures:
        for weights in itertools.product(*(standing[arm] for arm in arms)):
            if sum(weights) <= 1:
                yield RouterParameters(temperature, dict(zip(arms, weights, strict=True)))


def _reached(
    problem: RoutingProblem, routers: Sequence[PilotRouter], candidates: int, k: int
) -> NDArray[np.float64]:
    """Mean nDCG of the problem's queries under each router."""
    weightings = [router.weights(problem.vectors[BASE], "soft") for router in routers]
    arms = weightings[0][0]
    missing = next((arm for arm in arms if arm not in problem.vectors), None)
    if missing is not None:
        raise NotFoundError(f'domain "{problem.name}" has no query vectors of "{missing}"')
    check_documents(problem.relevant, problem.corpus.size)
    shares = np.stack([weights for _, weights in weightings])
    vectors = np.stack([problem.vectors[arm] for arm in arms])
    nominated = [top_documents(matrix, problem.corpus, candidates) for matrix in vectors]
    totals = np.zeros(len(routers))
    for number, relevant in enumerate(problem.relevant):
        documents = np.unique([rows[number] for rows in nominated])
        scores = _arm_scores(vectors[:, number], problem.corpus, documents)
        mixed = best_of_chunks(shares[:, number] @ scores[0], scores[1])
        places = {int(document): place for place, document in enumerate(documents)}
        found = {places[d]: grade for d, grade in relevant.items() if d in places}
        totals += ndcg_of_scorings(mixed, found, ideal=ideal_gain(relevant, k), k=k)
    return totals / max(1, len(problem.relevant))


def _arm_scores(
    vectors: Vectors, corpus: Corpus, documents: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Scores (arms, chunks) of the documents' chunks, and where each document starts."""
    starts, ends = corpus.starts[documents], corpus.starts[documents + 1]
    _, chunks = expand(starts, ends)
    return vectors @ corpus.vectors[chunks].T, np.concatenate(([0], np.cumsum(ends - starts)))

"""Soft routing fitted on dev: its temperature, and the standing weights of base and general."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pgembed.arm_router import ArmRouter, Fallback, RouterParameters, Weighting
from pgembed.errors import InputError, NotFoundError
from pgembed.heads import BASE, Head
from pgembed.metrics import (
    Corpus,
    best_of_chunks,
    check_documents,
    ideal_gain,
    ndcg_of_scorings,
    top_documents,
)
from pgembed.model import Vectors
from pgembed.ragged import expand

GENERAL = "general"
"""The expert that is trained on every domain."""

TEMPERATURES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""For similarities."""
LOGIT_TEMPERATURES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""For log-probabilities."""
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


@dataclass(frozen=True, slots=True, eq=False)
class PooledProblem:
    """The same with the documents that any arm ranks high, scored once for all mixtures.

    A document below rank 100 in every arm does not reach rank 10 of a mix of them for any
    practical purpose, so figures are those of exact ranking; relevant documents outside the
    union still count in the ideal.
    """

    problem: RoutingProblem
    candidates: int = 100
    """Documents that each arm nominates for each query."""
    arms: tuple[str, ...] = field(init=False)
    _scores: tuple[NDArray[np.float32], ...] = field(init=False, repr=False)
    _starts: tuple[NDArray[np.intp], ...] = field(init=False, repr=False)
    _found: tuple[Mapping[int, int], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        problem = self.problem
        check_documents(problem.relevant, problem.corpus.size)
        arms = tuple(sorted(problem.vectors))
        vectors = np.stack([problem.vectors[arm] for arm in arms])
        nominated = [top_documents(each, problem.corpus, self.candidates) for each in vectors]
        scores, starts, found = [], [], []
        for number, relevant in enumerate(problem.relevant):
            documents = np.unique([rows[number] for rows in nominated])
            scored = _arm_scores(vectors[:, number], problem.corpus, documents)
            places = {int(document): place for place, document in enumerate(documents)}
            scores.append(scored[0])
            starts.append(scored[1])
            found.append({places[d]: grade for d, grade in relevant.items() if d in places})
        object.__setattr__(self, "arms", arms)
        object.__setattr__(self, "_scores", tuple(scores))
        object.__setattr__(self, "_starts", tuple(starts))
        object.__setattr__(self, "_found", tuple(found))

    def ndcg(self, shares: NDArray[np.float64], k: int = 10) -> NDArray[np.float64]:
        """NDCG of each query under many mixtures.

        Args:
            shares: of the arms, shape (mixtures, n, arms).
            k: ranks that count.

        Returns:
            float64, shape (mixtures, n).
        """
        reached = np.zeros(shares.shape[:2])
        for number, relevant in enumerate(self.problem.relevant):
            mixed = best_of_chunks(shares[:, number] @ self._scores[number], self._starts[number])
            reached[:, number] = ndcg_of_scorings(
                mixed, self._found[number], ideal=ideal_gain(relevant, k), k=k
            )
        return reached

    def shares_of(self, weighting: Weighting) -> NDArray[np.float64]:
        """A router's weights in the order of this problem's arms: shape (n, arms).

        Raises:
            NotFoundError: an arm has weight but no query vectors.
        """
        arms, weights = weighting
        shares = np.zeros((len(weights), len(self.arms)))
        for column, arm in enumerate(arms):
            if arm in self.arms:
                shares[:, self.arms.index(arm)] = weights[:, column]
            elif weights[:, column].any():
                raise NotFoundError(f'domain "{self.problem.name}" has no query vectors of "{arm}"')
        return shares


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
    head: Head,
    problems: Sequence[RoutingProblem | PooledProblem],
    *,
    temperatures: Sequence[float] = TEMPERATURES,
    standing: Mapping[str, Sequence[float]] = STANDING,
    top: int | None = None,
    minimum_share: float = 0.0,
    fallback: Fallback | None = None,
    k: int = 10,
) -> SoftFit:
    """Choose temperature and standing weights of soft routing by macro dev nDCG.

    Args:
        head: what the router knows of a query.
        problems: one for each domain; each counts alike.
        temperatures: to try.
        standing: weights to try by arm; an arm that a problem lacks is left out.
        top: as in ``RouterParameters``.
        minimum_share: as in ``RouterParameters``.
        fallback: who answers out of domain.
        k: ranks that count.

    Returns:
        The best parameters and the whole table, in the order of the grid: among equal settings
        the first wins.

    Raises:
        InputError: there is nothing to fit on, or no setting whose weights sum to at most 1.
        NotFoundError: an expert has weight but no query vectors in a problem.
    """
    if not problems:
        raise InputError("soft routing needs the dev queries of at least one domain")
    pooled = [p if isinstance(p, PooledProblem) else PooledProblem(p) for p in problems]
    grid = [
        RouterParameters(temperature, weights, top, minimum_share)
        for temperature, weights in _grid(pooled, temperatures, standing)
    ]
    if not grid:
        raise InputError("no combination of standing weights sums to at most 1")
    routers = [ArmRouter(head, parameters, fallback=fallback) for parameters in grid]
    reached = {
        each.problem.name: _reached(each, routers, k)
        for each in sorted(pooled, key=lambda each: each.problem.name)
    }
    table = []
    for number, parameters in enumerate(grid):
        ndcg = {name: float(values[number]) for name, values in reached.items()}
        table.append(SoftSetting(parameters, ndcg, sum(ndcg.values()) / len(ndcg)))
    return SoftFit(max(table, key=lambda setting: setting.macro).parameters, tuple(table))


def select_shares(pooled: PooledProblem, *, picks: int = 20, k: int = 10) -> dict[str, float]:
    """Shares of the arms that answer one domain's dev queries best, by greedy selection.

    Ensemble selection with replacement (Caruana et al. 2004, "Ensemble selection from libraries
    of models", section 2): each step adds the arm that raises the mean nDCG most; an arm's share
    is how often it was added, up to the step that reached the most.

    Args:
        pooled: dev queries of the domain.
        picks: steps.
        k: ranks that count.

    Returns:
        Shares above 0 by arm, 1 in sum.
    """
    arms, counts = pooled.arms, np.zeros(len(pooled.arms))
    best, chosen = -1.0, counts
    for step in range(1, picks + 1):
        tried = (counts + np.eye(len(arms))) / step
        shares = np.repeat(tried[:, None, :], len(pooled.problem.relevant), axis=1)
        reached = pooled.ndcg(shares, k).mean(axis=1)
        counts = counts + np.eye(len(arms))[int(np.argmax(reached))]
        if reached.max() > best + 1e-9:
            best, chosen = float(reached.max()), counts / step
    return {arm: float(share) for arm, share in zip(arms, chosen, strict=True) if share > 0}


def _grid(
    problems: Sequence[PooledProblem],
    temperatures: Sequence[float],
    standing: Mapping[str, Sequence[float]],
) -> Iterator[tuple[float, dict[str, float]]]:
    arms = [arm for arm in standing if all(arm in each.arms for each in problems)]
    for temperature in temperatures:
        for weights in itertools.product(*(standing[arm] for arm in arms)):
            if sum(weights) <= 1:
                yield temperature, dict(zip(arms, weights, strict=True))


def _reached(pooled: PooledProblem, routers: Sequence[ArmRouter], k: int) -> NDArray[np.float64]:
    """Mean nDCG of the problem's queries under each router."""
    Z = pooled.problem.vectors[BASE]
    shares = np.stack([pooled.shares_of(router.weights(Z, "soft")) for router in routers])
    means: NDArray[np.float64] = pooled.ndcg(shares, k).mean(axis=1)
    return means


def _arm_scores(
    vectors: Vectors, corpus: Corpus, documents: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Scores (arms, chunks) of the documents' chunks, and where each document starts."""
    starts, ends = corpus.starts[documents], corpus.starts[documents + 1]
    _, chunks = expand(starts, ends)
    return vectors @ corpus.vectors[chunks].T, np.concatenate(([0], np.cumsum(ends - starts)))

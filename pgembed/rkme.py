"""Reduced kernel mean embedding: a domain as a few weighted points, and how far samples are off.

The kernel is k(x, y) = exp(-gamma |x - y|^2). A sample's embedding is the mean of k(x, .) over it;
a reduced set of points z with weights beta >= 0 stands for it with few points (Wu et al. (2021),
"Model reuse with reduced kernel mean embedding specification", arXiv 2001.07135). The distance of
two embeddings is the maximum mean discrepancy (Gretton et al. 2012).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgembed.errors import InputError

Points = NDArray[np.float64]

POINTS = 100
"""Points that stand for a domain."""

ROWS = 1000
"""Rows of a sample that are reduced at most: more say little more, and cost time and memory."""

ROUNDS, STEPS = 2, 8
"""How often weights and points take turns, and gradient steps of the points in each turn."""

RESAMPLES = 200
"""Draws behind an interval or a quantile."""

SWEEPS = 200
"""Passes of the coordinate descent over the weights, at most."""


@dataclass(frozen=True, slots=True, eq=False)
class ReducedSet:
    """A domain: weighted points whose kernel mean embedding is nearly that of a sample."""

    points: Points
    """float64, shape (k, dimensions)."""
    beta: NDArray[np.float64]
    """Weights, 0 or more: shape (k,)."""
    gamma: float
    n: int
    """Rows of the sample that it stands for."""


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """The maximum mean discrepancy of a sample and a domain, with its bootstrap interval."""

    value: float
    low: float
    high: float


def kernel(X: Points, Y: Points, gamma: float) -> NDArray[np.float64]:
    """exp(-gamma |x - y|^2) of each row of X (n, d) and each of Y (m, d): shape (n, m)."""
    values: NDArray[np.float64] = np.exp(-gamma * _squared_distances(X, Y))
    return values


def median_gamma(X: Points) -> float:
    """1 over the median squared distance of the rows of X, of the first 1000 at most.

    Unit vectors are at most 2 apart: with a fixed small gamma the kernel is nearly linear, and the
    discrepancy that of the means.
    """
    distances = _squared_distances(X[:1000], X[:1000])
    apart = distances[np.triu_indices(len(distances), k=1)]
    median = float(np.median(apart)) if apart.size else 0.0
    return 1 / median if median > 0 else 1.0


def objective(Z: Points, beta: NDArray[np.float64], X: Points, gamma: float) -> float:
    """Squared distance of the embeddings of (Z, beta) and of X."""
    return _varying(Z, beta, X, gamma) + float(kernel(X, X, gamma).mean())


def gradient(Z: Points, beta: NDArray[np.float64], X: Points, gamma: float) -> Points:
    """Derivative of the objective by Z, shape of Z.

    d/dz_i = -4 gamma beta_i [sum_j beta_j k(z_i, z_j) (z_i - z_j) - mean_n k(z_i, x_n) (z_i - x_n)]
    """
    between = kernel(Z, Z, gamma) * beta
    towards = kernel(Z, X, gamma) / len(X)
    repelled = between.sum(axis=1, keepdims=True) * Z - between @ Z
    attracted = towards.sum(axis=1, keepdims=True) * Z - towards @ X
    slope: Points = -4 * gamma * beta[:, None] * (repelled - attracted)
    return slope


def weights(Z: Points, X: Points, gamma: float) -> NDArray[np.float64]:
    """The weights beta >= 0 that minimise the objective for given Z, by coordinate descent."""
    K, c = kernel(Z, Z, gamma), kernel(Z, X, gamma).mean(axis=1)
    beta = np.full(len(Z), 1 / len(Z))
    slope = K @ beta - c
    for _ in range(SWEEPS):
        largest = 0.0
        for i in range(len(Z)):
            change = max(-beta[i], -slope[i])
            beta[i] += change
            slope += change * K[:, i]
            largest = max(largest, abs(change))
        if largest < 1e-8:
            break
    return beta


def reduce(
    X: Points, *, points: int = POINTS, gamma: float | None = None, seed: int = 0
) -> ReducedSet:
    """Stand for a sample by a few weighted points.

    Points start at the centres of k-means; then weights and points are improved in turn, the
    points by gradient steps that are taken only where they lower the objective. A sample of no
    more rows than points stands for itself.

    Args:
        X: the sample, shape (n, dimensions); of more than 1000 rows a seeded choice is taken.
        points: at most so many.
        gamma: of the kernel; ``median_gamma`` of the sample when None.
        seed: of the choice and of k-means.

    Raises:
        InputError: there is no row, or no point.
    """
    if not len(X) or points < 1:
        raise InputError(f"{len(X)} rows cannot be reduced to {points} points")
    generator = np.random.default_rng(seed)
    X = np.asarray(X, dtype=np.float64)
    if len(X) > ROWS:
        X = X[generator.permutation(len(X))[:ROWS]]
    gamma = gamma or median_gamma(X)
    if len(X) <= points:
        return ReducedSet(X, np.full(len(X), 1 / len(X)), gamma, len(X))
    Z = _centres(X, points, generator)
    beta = weights(Z, X, gamma)
    for _ in range(ROUNDS):
        Z = _descended(Z, beta, X, gamma)
        beta = weights(Z, X, gamma)
    return ReducedSet(Z, beta, gamma, len(X))


def squared_discrepancy(sample: Points, domain: ReducedSet) -> float:
    """The squared maximum mean discrepancy of a sample and a domain, without bias from their sizes.

    A sample is nearer to itself than to another of the same domain, the more so the smaller it is.
    Pairs of a row with itself are left out of both embeddings' lengths for that reason, so the
    value is 0 on average within a domain, and may be below 0.
    """
    return float(_squared(sample, domain, np.ones((1, len(sample))))[0])


def discrepancy(sample: Points, domain: ReducedSet, *, seed: int = 0) -> Discrepancy:
    """The maximum mean discrepancy with a 95 % percentile interval over resampled rows.

    Args:
        sample: shape (n, dimensions), two rows or more.
        domain: what to compare with.
        seed: of the resampling.
    """
    _check_sample(sample)
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(len(sample), [1 / len(sample)] * len(sample), size=RESAMPLES)
    low, high = np.quantile(_squared(sample, domain, draws.astype(float)), [0.025, 0.975])
    return Discrepancy(_root(squared_discrepancy(sample, domain)), _root(low), _root(high))


def same_domain_quantile(
    X: Points, *, gamma: float, points: int = POINTS, size: int = 500, seed: int = 0
) -> float:
    """The 95 % quantile of the discrepancy between samples of one domain.

    One half of X is reduced, and rows of the other half are drawn without replacement again and
    again: samples that the reduction has not seen, of ``size`` rows or half as many as there are.
    They are drawn from twice ``size`` rows, or 1000 if that is more: memory grows with the square
    of their number, not with that of X.
    """
    _check_sample(X)
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(X))
    half = reduce(X[order[: len(X) // 2]], points=points, gamma=gamma, seed=seed)
    others = np.asarray(X[order[len(X) // 2 :][: max(2 * size, ROWS)]], dtype=np.float64)
    take = max(2, min(size, len(others) // 2))
    draws = np.zeros((RESAMPLES, len(others)))
    for row in draws:
        row[generator.permutation(len(others))[:take]] = 1
    return _root(float(np.quantile(_squared(others, half, draws), 0.95)))


def _squared(
    sample: Points, domain: ReducedSet, counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Squared discrepancies of samples drawn from a sample: counts has shape (draws, n)."""
    sample = np.asarray(sample, dtype=np.float64)
    between = kernel(sample, sample, domain.gamma)
    np.fill_diagonal(between, 0)
    sizes = counts.sum(axis=1)
    pairs = np.maximum(sizes**2 - (counts**2).sum(axis=1), 1)
    own = np.einsum("ij,ij->i", counts @ between, counts) / pairs
    cross = counts @ (kernel(sample, domain.points, domain.gamma) @ domain.beta) / sizes
    squared: NDArray[np.float64] = own - 2 * cross + _own_length(domain)
    return squared


def _own_length(domain: ReducedSet) -> float:
    """Squared length of the domain's embedding without pairs of a row with itself."""
    length = domain.beta @ kernel(domain.points, domain.points, domain.gamma) @ domain.beta
    return float((domain.n * length - 1) / (domain.n - 1)) if domain.n > 1 else float(length)


def _varying(Z: Points, beta: NDArray[np.float64], X: Points, gamma: float) -> float:
    """The objective without its last term, which is the same for all Z and beta."""
    own = beta @ kernel(Z, Z, gamma) @ beta
    return float(own - 2 * beta @ kernel(Z, X, gamma).mean(axis=1))


def _descended(Z: Points, beta: NDArray[np.float64], X: Points, gamma: float) -> Points:
    value, step = _varying(Z, beta, X, gamma), 1 / gamma
    for _ in range(STEPS):
        moved = Z - step * gradient(Z, beta, X, gamma) / np.maximum(beta, 1e-12)[:, None]
        reached = _varying(moved, beta, X, gamma)
        if reached < value:
            Z, value = moved, reached
        else:
            step /= 4
    return Z


def _centres(X: Points, points: int, generator: np.random.Generator) -> Points:
    """Centres of k-means after ten rounds of Lloyd's; one without rows stays where it is."""
    centres = X[generator.permutation(len(X))[:points]].copy()
    for _ in range(10):
        nearest = _squared_distances(X, centres).argmin(axis=1)
        counts = np.bincount(nearest, minlength=points)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, X)
        filled = counts > 0
        centres[filled] = sums[filled] / counts[filled, None]
    return centres


def _squared_distances(X: Points, Y: Points) -> NDArray[np.float64]:
    squares = (X**2).sum(axis=1)[:, None] + (Y**2).sum(axis=1)
    distances: NDArray[np.float64] = np.maximum(squares - 2 * (X @ Y.T), 0)
    return distances


def _check_sample(sample: Points) -> None:
    if len(sample) < 2:
        raise InputError(f"a discrepancy takes two rows or more, not {len(sample)}")


def _root(squared: float) -> float:
    return float(np.sqrt(max(squared, 0.0)))

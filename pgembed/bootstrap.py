"""Paired bootstrap: how sure is it that one system answers better than another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pgembed.errors import InputError

BLOCK_SAMPLES = 4 * 2**20
"""Resampled queries that are held in memory at once: 16 MB of indices, 32 MB of values."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean difference with its bootstrap percentile interval."""

    mean: float
    low: float
    high: float
    p: float
    """Share of the draws in which the difference is not above 0 (one-sided)."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A paired comparison of two systems."""

    interval: Interval
    p: float
    """Two-sided: twice the share of the draws on the smaller side of 0, never 0 itself."""


def paired_bootstrap(
    a: ArrayLike,
    b: ArrayLike,
    *,
    draws: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
    strata: Sequence[object] | NDArray[np.generic] | None = None,
) -> Interval:
    """Percentile interval of the mean of b - a over queries.

    Queries are resampled with replacement, each with both of its scores (Efron and Tibshirani
    (1993), "An introduction to the bootstrap", chapters 13 and 16). With strata every stratum is
    resampled by itself and the mean is the mean of the strata's means, so that a domain with many
    queries does not outweigh the others.

    Args:
        a: score of each query under the first system, shape (n,).
        b: score of the same queries under the second system, shape (n,).
        draws: how often to resample.
        seed: of the random generator; equal seeds give equal intervals.
        level: coverage of the interval.
        strata: label of each query's stratum, length n; None for one stratum.

    Returns:
        Mean, interval and p of the difference; memory does not grow with draws times n.

    Raises:
        InputError: lengths differ, nothing was scored, a score is not finite, or an option is
            out of range.
    """
    return compare(a, b, draws=draws, seed=seed, level=level, strata=strata).interval


def compare(
    a: ArrayLike,
    b: ArrayLike,
    *,
    draws: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
    strata: Sequence[object] | NDArray[np.generic] | None = None,
) -> Comparison:
    """``paired_bootstrap`` with a two-sided p, which ``holm`` can correct.

    The p is that of the interval turned around: the least 1 - level whose interval excludes 0.
    One is added to both counts (Davison and Hinkley (1997), "Bootstrap methods and their
    application", section 4.2), so that no p is smaller than the draws can tell.

    Raises:
        InputError: as ``paired_bootstrap``.
    """
    difference = _differences(a, b)
    if draws < 1 or not 0 < level < 1:
        raise InputError(f"draws must be at least 1 and level within (0, 1), not {draws}, {level}")
    generator = np.random.default_rng(seed)
    groups = _strata(difference, strata)
    means = sum((_resampled_means(g, draws, generator) for g in groups), np.zeros(draws))
    means /= len(groups)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    interval = Interval(
        mean=float(np.mean([group.mean() for group in groups])),
        low=float(low),
        high=float(high),
        p=float(np.mean(means <= 0)),
    )
    smaller = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    return Comparison(interval, p=min(1.0, 2 * (smaller + 1) / (draws + 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for their number, so that those below alpha can be rejected together.

    The chance of any false rejection is at most alpha then, however the comparisons depend on
    each other (Holm (1979), "A simple sequentially rejective multiple test procedure").

    Args:
        p_values: of all comparisons of one family.

    Returns:
        Adjusted values in the same order, at most 1.

    Raises:
        InputError: a value is not within 0 to 1.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"p values are numbers from 0 to 1, not {p_values!r:.200}")
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in adjusted]


def _differences(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise InputError(
            f"a paired bootstrap needs two equally long rows of scores, "
            f"not shapes {first.shape} and {second.shape}"
        )
    difference = second - first
    if not np.isfinite(difference).all():
        raise InputError("a score is not a finite number")
    return difference


def _strata(
    difference: NDArray[np.float64], strata: Sequence[object] | NDArray[np.generic] | None
) -> list[NDArray[np.float64]]:
    if strata is None:
        return [difference]
    labels = np.asarray(strata)
    if labels.shape != difference.shape:
        raise InputError(f"{difference.size} queries have {labels.size} strata labels")
    return [difference[labels == label] for label in np.unique(labels)]


def _resampled_means(
    values: NDArray[np.float64], draws: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    rows = max(1, BLOCK_SAMPLES // values.size)
    means = np.empty(draws)
    for first in range(0, draws, rows):
        shape = (min(rows, draws - first), values.size)
        means[first : first + rows] = values[
            generator.integers(values.size, size=shape, dtype=np.uint32)
        ].mean(axis=1)
    return means

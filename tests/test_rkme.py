"""Reduced kernel mean embeddings: the gradient, the reduction, and what distances tell apart."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from pgembed.errors import InputError
from pgembed.linear_expert import unit
from pgembed.rkme import (
    discrepancy,
    gradient,
    kernel,
    median_gamma,
    objective,
    reduce,
    same_domain_quantile,
    squared_discrepancy,
    weights,
)

DIMENSIONS = 16


def domain(number: int, rows: int, seed: int = 0) -> np.ndarray:
    """Unit vectors of a domain: two clusters, of which neighbouring domains share one."""
    centres = np.random.default_rng(99).standard_normal((9, DIMENSIONS))
    random = np.random.default_rng((number, seed))
    chosen = centres[number + random.integers(2, size=rows)]
    return unit(chosen + 0.8 * random.standard_normal((rows, DIMENSIONS)))


def test_the_gradient_is_that_of_the_objective() -> None:
    """By central differences, in every coordinate."""
    random = np.random.default_rng(0)
    X, Z, beta = random.standard_normal((30, 4)), random.standard_normal((5, 4)), random.random(5)
    found, step = gradient(Z, beta, X, 0.3), 1e-6
    for index in np.ndindex(Z.shape):
        up, down = Z.copy(), Z.copy()
        up[index] += step
        down[index] -= step
        slope = (objective(up, beta, X, 0.3) - objective(down, beta, X, 0.3)) / (2 * step)
        assert found[index] == pytest.approx(slope, abs=1e-8)


def test_a_sample_that_is_kept_whole_stands_for_itself() -> None:
    """As many points as rows: the objective is 0, and so is the distance of the embeddings."""
    X = domain(0, 40)
    whole = reduce(X, points=40)
    assert objective(whole.points, whole.beta, X, whole.gamma) == pytest.approx(0, abs=1e-12)
    assert objective(X, weights(X, X, whole.gamma), X, whole.gamma) == pytest.approx(0, abs=1e-6)


def test_few_points_are_nearer_than_as_many_rows() -> None:
    """The reduction is worth its time, its weights are none below 0, and a seed repeats it."""
    X = domain(0, 400)
    reduced = reduce(X, points=10)
    assert reduced.points.shape == (10, DIMENSIONS)
    assert (reduced.beta >= 0).all()
    reached = objective(reduced.points, reduced.beta, X, reduced.gamma)
    rows = min(
        objective(X[s : s + 10], np.full(10, 0.1), X, reduced.gamma) for s in range(0, 400, 10)
    )
    assert reached < rows / 3
    assert np.array_equal(reduce(X, points=10).points, reduced.points)


def test_weights_are_the_best_of_their_points() -> None:
    """No step along any axis that stays at 0 or more lowers the objective."""
    X = domain(0, 100)
    Z = X[:8]
    beta, gamma = weights(Z, X, 1.0), 1.0
    slope = 2 * (kernel(Z, Z, gamma) @ beta - kernel(Z, X, gamma).mean(axis=1))
    assert np.all(np.abs(slope[beta > 0]) < 1e-6)
    assert np.all(slope[beta == 0] > -1e-6)


def test_the_discrepancy_of_a_domain_with_itself_is_0_whatever_the_size() -> None:
    """On average over samples: without the correction small ones would seem far away."""
    reduced = reduce(domain(0, 800), points=50)
    for size in (5, 50):
        found = [squared_discrepancy(domain(0, size, seed), reduced) for seed in range(1, 60)]
        assert np.mean(found) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("size", [5, 20])
def test_held_out_samples_find_their_domain(size: int) -> None:
    """Of eight that overlap, at least as often as by the nearest centroid."""
    described = [reduce(domain(number, 300), points=40, gamma=1.0) for number in range(8)]
    centroids = [unit(domain(number, 300).mean(axis=0)) for number in range(8)]
    right = np.zeros(2)
    for number in range(8):
        for seed in range(1, 16):
            sample = domain(number, size, seed)
            distances = [squared_discrepancy(sample, each) for each in described]
            cosines = [sample.mean(axis=0) @ each for each in centroids]
            right += [np.argmin(distances) == number, np.argmax(cosines) == number]
    assert right[0] >= right[1]
    assert right[0] > 0.6 * 8 * 15


def test_only_another_domain_is_out_of_domain() -> None:
    """The interval of a neighbour lies above the quantile, that of the same domain does not."""
    X = domain(0, 400)
    gamma = median_gamma(X)
    reduced, quantile = reduce(X, gamma=gamma), same_domain_quantile(X, gamma=gamma)
    flagged = [discrepancy(domain(0, 100, seed), reduced).low > quantile for seed in range(1, 11)]
    assert sum(flagged) <= 1
    assert discrepancy(domain(1, 100, 1), reduced).low > quantile


def test_memory_does_not_grow_with_the_square_of_a_domain() -> None:
    """Distances of 4000 rows to each other alone would take 128 MB."""
    X = domain(0, 8000)
    tracemalloc.start()
    try:
        assert same_domain_quantile(X, gamma=1.0, points=10) > 0
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 80 * 2**20


def test_an_interval_holds_its_value_and_shrinks() -> None:
    """With more rows it says more."""
    reduced = reduce(domain(0, 300), points=40)
    small, large = (discrepancy(domain(1, size, 1), reduced) for size in (20, 200))
    for found in (small, large):
        assert found.low <= found.value <= found.high
    assert large.high - large.low < small.high - small.low


def test_what_says_nothing_is_refused() -> None:
    """No rows, no points, a single row; equal rows are no error."""
    with pytest.raises(InputError):
        reduce(np.zeros((0, 3)))
    with pytest.raises(InputError):
        reduce(np.ones((3, 3)), points=0)
    with pytest.raises(InputError):
        discrepancy(np.ones((1, 3)), reduce(np.ones((3, 3))))
    assert discrepancy(np.ones((5, 3)), reduce(np.ones((300, 3)))).value == pytest.approx(0)

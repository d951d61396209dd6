"""The paired bootstrap agrees with its naive twin and with the normal approximation."""

from __future__ import annotations

from math import erfc, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgembed import bootstrap
from pgembed.bootstrap import compare, holm, paired_bootstrap
from pgembed.errors import InputError


def scores(n: int, gain: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two systems' scores whose difference has the given mean and a spread of .15."""
    generator = np.random.default_rng(seed)
    a = generator.random(n)
    return a, a + generator.normal(gain, 0.15, size=n)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_interval_is_close_to_the_normal_one(level: float) -> None:
    """With many queries the interval is mean plus and minus z standard errors."""
    a, b = scores(2000, 0.01)
    z = {0.8: 1.2816, 0.95: 1.9600}[level]
    error = (b - a).std() / np.sqrt(2000)
    interval = paired_bootstrap(a, b, level=level)
    assert interval.mean == pytest.approx((b - a).mean())
    assert interval.low == pytest.approx(interval.mean - z * error, abs=error / 10)
    assert interval.high == pytest.approx(interval.mean + z * error, abs=error / 10)


def test_interval_is_close_to_resampling_by_hand() -> None:
    """A loop over resampled queries, stratum by stratum, gives the same interval and p."""
    a, b = scores(60, 0.02)
    strata = np.repeat([0, 1], [15, 45])
    generator = np.random.default_rng(1)
    means = []
    for _ in range(4000):
        parts = [(b - a)[strata == label] for label in (0, 1)]
        means.append(np.mean([generator.choice(part, part.size).mean() for part in parts]))
    interval = paired_bootstrap(a, b, strata=strata)
    low, high = np.quantile(means, [0.025, 0.975])
    assert [interval.low, interval.high] == pytest.approx([low, high], abs=0.004)
    assert interval.p == pytest.approx(np.mean(np.asarray(means) <= 0), abs=0.03)


def test_strata_count_alike_whatever_their_size() -> None:
    """The mean is the mean of the strata's means."""
    a, b = np.zeros(110), np.concatenate((np.ones(10), np.zeros(100)))
    interval = paired_bootstrap(a, b, strata=["small"] * 10 + ["large"] * 100)
    assert (interval.mean, interval.low, interval.high) == (0.5, 0.5, 0.5)
    assert paired_bootstrap(a, b).mean == pytest.approx(10 / 110)


def test_equal_systems_have_p_one() -> None:
    """No difference at all is an interval of zero width, and never a gain."""
    interval = paired_bootstrap(np.ones(40), np.ones(40))
    assert (interval.low, interval.high, interval.p) == (0, 0, 1)


def test_exchanging_the_systems_turns_the_interval_around() -> None:
    """The interval of a - b is the negative of that of b - a."""
    a, b = scores(100, 0.05)
    forth, back = paired_bootstrap(a, b), paired_bootstrap(b, a)
    assert back.mean == pytest.approx(-forth.mean)
    assert [back.low, back.high] == pytest.approx([-forth.high, -forth.low])


@settings(max_examples=25)
@given(n=st.integers(1, 50), seed=st.integers(0, 100))
def test_the_interval_lies_within_the_differences(n: int, seed: int) -> None:
    """Low, mean and high are in order and within the smallest and the largest difference."""
    a, b = scores(n, 0.0, seed)
    interval = paired_bootstrap(a, b, draws=300, seed=seed)
    smallest, largest = (b - a).min() - 1e-9, (b - a).max() + 1e-9
    assert smallest <= interval.low <= interval.high <= largest
    assert 0 <= interval.p <= 1


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing in small blocks gives an equally good interval; equal seeds give equal ones."""
    a, b = scores(200, 0.02)
    at_once = paired_bootstrap(a, b)
    assert paired_bootstrap(a, b) == at_once
    monkeypatch.setattr(bootstrap, "BLOCK_SAMPLES", 1000)
    in_blocks = paired_bootstrap(a, b)
    assert in_blocks.low == pytest.approx(at_once.low, abs=0.002)


@pytest.mark.parametrize(
    ("a", "b", "options"),
    [
        ([1.0], [1.0, 2.0], {}),
        ([], [], {}),
        ([0.0], [np.nan], {}),
        ([0.0], [1.0], {"level": 1.0}),
        ([0.0], [1.0], {"draws": 0}),
        ([0.0], [1.0], {"strata": ["x", "y"]}),
    ],
)
def test_unusable_input_is_refused(a: list[float], b: list[float], options: dict) -> None:
    """Unpaired, empty or non-finite scores and options out of range raise InputError."""
    with pytest.raises(InputError):
        paired_bootstrap(a, b, **options)


# Comparisons.


def test_a_comparison_has_the_interval_of_the_bootstrap() -> None:
    """And a p below 1 - level exactly where the interval excludes 0."""
    for gain in (0.0, 0.01, 0.03, 0.06, -0.06):
        a, b = scores(80, gain)
        strata = np.repeat([0, 1], [20, 60])
        compared = compare(a, b, strata=strata)
        assert compared.interval == paired_bootstrap(a, b, strata=strata)
        excludes = compared.interval.low > 0 or compared.interval.high < 0
        assert (compared.p < 0.05) == excludes


def test_p_is_close_to_the_normal_one() -> None:
    """With many queries it is that of a z test; the same when the systems change places."""
    a, b = scores(2000, 0.005)
    z = (b - a).mean() / ((b - a).std() / np.sqrt(2000))
    assert compare(a, b).p == pytest.approx(erfc(abs(z) / sqrt(2)), abs=0.01)
    assert compare(a, b).p == pytest.approx(compare(b, a).p)


def test_p_is_never_zero_and_one_where_nothing_differs() -> None:
    """The draws cannot tell less than their number."""
    assert compare(np.zeros(50), np.ones(50), draws=999).p == pytest.approx(2 / 1000)
    assert compare(np.ones(50), np.ones(50)).p == 1


def test_holm_is_the_textbook_example() -> None:
    """.01 x 4, .02 x 3 (.06, then kept from falling), .03 x 2, .04 x 1; order is kept."""
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9, 0.001]) == pytest.approx([1.0, 1.0, 0.003])
    assert holm([]) == []
    assert holm([0.2]) == [0.2]


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_lies_between_the_value_and_bonferroni(values: list[float]) -> None:
    """Never below the p itself, never above n times it, and monotone in it."""
    adjusted = holm(values)
    for p, q in zip(values, adjusted, strict=True):
        assert p <= q <= min(1.0, len(values) * p) + 1e-12
    assert [q for _, q in sorted(zip(values, adjusted, strict=True))] == sorted(adjusted)


@pytest.mark.parametrize("values", [[-0.1], [1.1], [float("nan")]])
def test_values_that_are_no_p_are_refused(values: list[float]) -> None:
    """Rather than sorted somewhere."""
    with pytest.raises(InputError, match="from 0 to 1"):
        holm(values)

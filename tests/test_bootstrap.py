"""The paired bootstrap agrees with its naive twin and with the normal approximation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgembed import bootstrap
from pgembed.bootstrap import paired_bootstrap
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

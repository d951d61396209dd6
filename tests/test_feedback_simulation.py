"""The simulated stream of clicks: learners find the best arm and follow it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pgembed.errors import InputError
from pgembed.feedback_simulation import (
    Fixed,
    Learner,
    MultiplicativeWeights,
    ThompsonSampling,
    World,
    simulate,
)

CHANGING = World(np.array([[[0.2, 0.8, 0.4], [0.9, 0.3, 0.5]], [[0.8, 0.2, 0.4], [0.9, 0.3, 0.5]]]))
"""The first domain's best arm changes half way, the second's does not."""

SEARCHES = 6_000

LEARNERS: dict[str, Callable[[np.random.Generator], Learner]] = {
    "thompson": lambda generator: ThompsonSampling(2, 3, half_life=500, generator=generator),
    "multiplicative": lambda generator: MultiplicativeWeights(2, 3, half_life=500),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_learners_find_the_best_arm_and_follow_its_change(name: str) -> None:
    """Far more often than the third that chance gives, before and after the change."""
    done = simulate(CHANGING, LEARNERS[name], searches=SEARCHES)
    assert done.share_of_best(0.35, 0.5) > 0.6
    assert done.share_of_best(0.85, 1.0) > 0.6
    assert done.share_of_best(0.5, 0.55) < done.share_of_best(0.85, 1.0)


@pytest.mark.parametrize("name", LEARNERS)
def test_learning_costs_less_than_not_learning(name: str) -> None:
    """Regret over the whole stream, against an even mix."""
    even = simulate(CHANGING, lambda _: Fixed([1 / 3] * 3), searches=SEARCHES)
    learned = simulate(CHANGING, LEARNERS[name], searches=SEARCHES)
    assert learned.regret.sum() < 0.75 * even.regret.sum()
    assert even.best.mean() == pytest.approx(1 / 3, abs=0.03)


def test_who_never_forgets_follows_late() -> None:
    """After a long time of one best arm, the half-life is what lets another come up."""
    before, after = CHANGING.quality
    world = World(np.stack([before, before, before, before, after]))
    shares = {
        half_life: np.mean(
            [
                simulate(
                    world,
                    lambda g, h=half_life: ThompsonSampling(2, 3, half_life=h, generator=g),
                    searches=8_000,
                    seed=seed,
                ).share_of_best(0.85, 1.0)
                for seed in range(2)
            ]
        )
        for half_life in (400.0, 1e9)
    }
    assert shares[400.0] > shares[1e9] + 0.05


@pytest.mark.parametrize(("eta", "tolerance"), [(0.0, 0.02), (1.0, 0.06)])
def test_rewards_are_free_of_the_position_bias(eta: float, tolerance: float) -> None:
    """Inverse propensities make a click's mean worth the quality alone, whatever eta."""
    seen: list[float] = []

    class Recorder(Fixed):
        def learn(self, domain: int, arm: int, probability: float, reward: float) -> None:
            seen.append(reward)

    world = World(np.array([[[0.6, 0.6]]]), eta=eta)
    simulate(world, lambda _: Recorder([0.5, 0.5]), searches=15_000, clip=0.1)
    assert np.mean(seen) / 0.1 == pytest.approx(0.6, abs=tolerance)


def test_a_world_is_made_of_probabilities() -> None:
    """Of three axes, none empty."""
    for wrong in (
        np.array([[0.5]]),
        np.array([[[1.5]]]),
        np.array([[[float("nan")]]]),
        np.zeros((1, 0, 2)),
    ):
        with pytest.raises(InputError):
            World(wrong)

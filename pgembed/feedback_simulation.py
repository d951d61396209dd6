"""A simulated stream of searches and clicks: do online weights find the best arm, and follow it?

Arms are experts, base included. Each search belongs to a domain, one arm answers it, and the user
clicks as the position-based model has it: the answer lies at some rank, the user looks there with
probability 1 / rank ^ eta, and clicks only what he looked at. Learners see clicks alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pgembed.errors import InputError

Floats = NDArray[np.float64]

RANKS = 10
"""Hits that a search shows."""


@dataclass(frozen=True, slots=True)
class World:
    """What users find relevant, which no learner sees."""

    quality: Floats
    """Shape (phases, domains, arms): probability that an arm puts the answer among its hits. The
    phases share the searches evenly: from one to the next the best arms may change."""
    eta: float = 1.0
    """A user looks at rank r with probability 1 / r ^ eta."""

    def __post_init__(self) -> None:
        if self.quality.ndim != 3 or not self.quality.size:
            raise InputError(f"quality has shape {self.quality.shape}, not (phases, domains, arms)")
        if not ((self.quality >= 0) & (self.quality <= 1)).all():
            raise InputError("a quality is a probability: from 0 to 1")


class Learner(Protocol):
    """Chooses an arm for each search, and learns from whether something was opened."""

    def weights(self, domain: int) -> Floats:
        """Probability of each arm for the next search of a domain."""
        ...

    def learn(self, domain: int, arm: int, probability: float, reward: float) -> None:
        """Take note of what came of a search.

        Args:
            domain: of the search.
            arm: that answered it.
            probability: with which the arm was chosen.
            reward: 1 / propensity of the clicked rank, clipped and scaled to at most 1; 0 without
                a click.
        """
        ...


class ThompsonSampling:
    """Beta posteriors of each arm's reward by domain, which forget with a half-life.

    Thompson (1933); discounted as by Raj and Kalyani (2017), arXiv 1707.09727. Rewards within
    [0, 1] count as fractions of a success. The forgetting is that of ``pgembed.router_statistics``,
    by searches instead of by time.
    """

    def __init__(
        self, domains: int, arms: int, *, half_life: float, generator: np.random.Generator
    ) -> None:
        self.successes = np.zeros((domains, arms))
        self.failures = np.zeros((domains, arms))
        self.kept = 0.5 ** (1 / half_life)
        self.generator = generator

    def weights(self, domain: int) -> Floats:
        """All on the arm that is best in one draw from the posteriors."""
        drawn = self.generator.beta(1 + self.successes[domain], 1 + self.failures[domain])
        chosen: Floats = np.eye(len(drawn))[drawn.argmax()]
        return chosen

    def learn(self, domain: int, arm: int, probability: float, reward: float) -> None:
        """Forget a little of the domain, then count."""
        self.successes[domain] *= self.kept
        self.failures[domain] *= self.kept
        self.successes[domain, arm] += reward
        self.failures[domain, arm] += 1 - reward


class MultiplicativeWeights:
    """Exponential weights on rewards divided by the probability of the arm, which forget.

    Exp3 (Auer et al. 2002) with a share of exploration; the sums decay with the half-life, so that
    a change of the best arm is followed.
    """

    def __init__(
        self, domains: int, arms: int, *, half_life: float, explored: float = 0.1, rate: float = 0.1
    ) -> None:
        self.sums = np.zeros((domains, arms))
        self.kept = 0.5 ** (1 / half_life)
        self.explored, self.rate = explored, rate

    def weights(self, domain: int) -> Floats:
        """A softmax of the sums, mixed with the uniform share."""
        scaled = self.rate * (self.sums[domain] - self.sums[domain].max())
        powers: Floats = np.exp(scaled)
        mixed: Floats = (1 - self.explored) * powers / powers.sum() + self.explored / len(powers)
        return mixed

    def learn(self, domain: int, arm: int, probability: float, reward: float) -> None:
        """Forget a little of the domain, then add the reward over its probability."""
        self.sums[domain] *= self.kept
        self.sums[domain, arm] += reward / probability


class Fixed:
    """The same weights for ever: what does not learn."""

    def __init__(self, weights: Sequence[float]) -> None:
        self.fixed = np.asarray(weights, dtype=np.float64)

    def weights(self, domain: int) -> Floats:
        """Those that it was made with."""
        return self.fixed

    def learn(self, domain: int, arm: int, probability: float, reward: float) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """What a learner did, search by search."""

    best: NDArray[np.bool_]
    """Whether the best arm of the search's domain answered, shape (searches,)."""
    regret: Floats
    """How much better the best arm would have been, in quality, shape (searches,)."""

    def share_of_best(self, first: float, last: float) -> float:
        """Share of searches that the best arm answered, within a part of the stream (0 to 1)."""
        n = len(self.best)
        return float(self.best[int(first * n) : int(last * n)].mean())


def simulate(
    world: World,
    make_learner: Callable[[np.random.Generator], Learner],
    *,
    searches: int,
    clip: float = 0.1,
    seed: int = 0,
) -> Simulation:
    """Let a learner answer a stream of searches.

    Args:
        world: what users find relevant.
        make_learner: makes the learner, given the random generator of the run.
        searches: length of the stream; domains are drawn evenly.
        clip: propensities below count as it, so that a click far down is no windfall.
        seed: equal seeds give equal streams of domains.
    """
    generator = np.random.default_rng(seed)
    learner = make_learner(generator)
    phases, domains, arms = world.quality.shape
    best, regret = np.zeros(searches, dtype=np.bool_), np.zeros(searches)
    asked = np.random.default_rng(seed + 1).integers(domains, size=searches)
    for number, domain in enumerate(asked):
        quality = world.quality[number * phases // searches, domain]
        weights = learner.weights(domain)
        arm = int(generator.choice(arms, p=weights))
        reward = _reward(quality[arm], world.eta, clip, generator)
        learner.learn(int(domain), arm, float(weights[arm]), reward)
        best[number] = quality[arm] == quality.max()
        regret[number] = quality.max() - quality[arm]
    return Simulation(best, regret)


def _reward(quality: float, eta: float, clip: float, generator: np.random.Generator) -> float:
    """Clipped inverse propensity of the clicked rank, times the clip; 0 without a click."""
    if generator.random() >= quality:
        return 0.0
    propensity = (1 + generator.integers(RANKS)) ** -eta
    seen = generator.random() < propensity
    return clip / max(propensity, clip) if seen else 0.0

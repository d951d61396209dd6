"""Gradient descent of a linear expert: InfoNCE and its gradient, AdamW, the one-cycle schedule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgembed.contrastive import Batches, TrainingProblem
from pgembed.errors import InputError, TrainingError
from pgembed.linear_expert import Floats

Weights = tuple[Floats, Floats]
"""A (dimensions, rank) and B (rank, dimensions)."""

Pair = tuple[NDArray[np.float32], NDArray[np.float32]]
"""The same while training."""

WARM_UP = 0.3
"""Share of the steps in which the learning rate rises."""
FIRST_SHARE = 1 / 25
"""Learning rate of the first step, as a share of the highest."""
LAST_SHARE = FIRST_SHARE / 1e4
"""Learning rate of the last step, as a share of the highest."""

DECAY_FIRST, DECAY_SECOND, TINY = 0.9, 0.999, 1e-8
"""Adam's constants (arXiv 1412.6980, algorithm 1)."""


@dataclass(frozen=True, slots=True)
class LinearSettings:
    """How a linear expert is trained."""

    rank: int = 64
    temperature: float = 0.05
    learning_rate: float = 2e-3
    """Peak of the one-cycle schedule."""
    weight_decay: float = 0.05
    batch: int = 64
    """Queries a step."""
    steps: int = 900
    """For one problem; p problems take sqrt(p) times as many."""
    mined: int = 8
    """Mined negatives a query."""
    random: int = 512
    """Random negatives a batch."""
    margin: float | None = 1.0
    """Mined negatives above this share of the positive's base similarity are masked as false
    negatives: 1 is GISTEmbed's threshold (arXiv 2402.16829) with the base as guide, .95 is
    NV-Retriever's (arXiv 2407.15831); None masks none."""
    evaluate_every: int = 50
    """Steps between two looks at dev; scaled with the problems as the steps are."""
    patience: int = 8
    """Looks at dev without a gain after which training stops."""
    minimum_gain: float = 0.001
    """Dev nDCG@10 by which a later expert must beat the best so far."""
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.rank, self.batch, self.steps, self.evaluate_every, self.patience)
        if min(counts) < 1 or min(self.mined, self.random) < 0:
            raise InputError(f"a count in {self} is too small")
        if min(self.temperature, self.learning_rate) <= 0:
            raise InputError(f"temperature and learning rate are above 0, not as in {self}")


def initial_weights(dimensions: int, rank: int, generator: np.random.Generator) -> Pair:
    """Draw A from N(0, 1 / dimensions), with B zero: the expert starts as the base."""
    A = generator.standard_normal((dimensions, rank), dtype=np.float32)
    return A / np.float32(np.sqrt(dimensions)), np.zeros((rank, dimensions), dtype=np.float32)


def descend(
    problems: Sequence[TrainingProblem],
    settings: LinearSettings,
    weights: Pair,
    steps: int,
    generator: np.random.Generator,
) -> Iterator[tuple[int, float, Pair]]:
    """Train step by step.

    Args:
        problems: each step draws one of them.
        settings: all but the number of steps.
        weights: A and B to start from.
        steps: length of the schedule.
        generator: of all that is random.

    Yields:
        The step's number from 1, its loss, and the weights after it.

    Raises:
        TrainingError: the loss is not finite.
    """
    sources = [
        Batches(problem, settings.batch, settings.mined, settings.random, settings.margin)
        for problem in problems
    ]
    moments = [Moments.zero(matrix) for matrix in weights]
    for step in range(1, steps + 1):
        batch = sources[generator.integers(len(sources))].draw(generator)
        loss, slopes = info_nce(
            weights,
            batch.queries,
            batch.candidates,
            batch.targets,
            batch.masked,
            temperature=settings.temperature,
        )
        if not np.isfinite(loss):
            raise TrainingError(f"the loss is {loss} at step {step}", hint="lower learning_rate")
        rate = one_cycle(step - 1, steps, settings.learning_rate)
        moments = [m.updated(slope) for m, slope in zip(moments, slopes, strict=True)]
        moved = [
            m.stepped(matrix, rate=rate, decay=settings.weight_decay)
            for m, matrix in zip(moments, weights, strict=True)
        ]
        weights = (moved[0], moved[1])
        yield step, loss, weights


def info_nce(
    weights: Weights[Floats],
    queries: Floats,
    candidates: Floats,
    targets: NDArray[np.intp],
    masked: NDArray[np.bool_],
    *,
    temperature: float,
) -> tuple[float, Weights[Floats]]:
    """Cross-entropy of each query's target among the candidates (arXiv 1807.03748, equation 4).

    Args:
        weights: A and B of the map z -> unit(z + (z A) B).
        queries: shape (b, dimensions), unit length.
        candidates: shape (c, dimensions), unit length.
        targets: shape (b,), the right candidate of each query.
        masked: shape (b, c), True where a candidate takes no part; never at a target.
        temperature: similarities are divided by it.

    Returns:
        The mean loss over the queries, and its gradient by A and by B.
    """
    A, B = weights
    rows = np.arange(len(queries))
    hidden = queries @ A
    mapped = queries + hidden @ B
    lengths = np.linalg.norm(mapped, axis=1, keepdims=True)
    directions = mapped / lengths
    logits = directions @ candidates.T / temperature
    logits[masked] = -np.inf
    logits -= logits.max(axis=1, keepdims=True)
    shares = np.exp(logits)
    totals = shares.sum(axis=1, keepdims=True)
    loss = float(np.mean(np.log(totals[:, 0]) - logits[rows, targets]))
    shares /= totals
    shares[rows, targets] -= 1
    by_direction = shares @ candidates / (temperature * len(rows))
    along = np.sum(by_direction * directions, axis=1, keepdims=True)
    by_mapped = (by_direction - along * directions) / lengths
    return loss, (queries.T @ (by_mapped @ B.T), hidden.T @ by_mapped)


def one_cycle(step: int, steps: int, highest: float) -> float:
    """Learning rate of a step counted from 0: up, then down, both along a cosine.

    The one-cycle policy (arXiv 1708.07120) with the constants that PyTorch's OneCycleLR has.
    """
    top = WARM_UP * steps - 1
    if step <= top:
        return _cosine(FIRST_SHARE * highest, highest, step / top)
    return _cosine(highest, LAST_SHARE * highest, (step - top) / (steps - 1 - top))


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """What AdamW remembers of one matrix: means of its gradients and of their squares."""

    first: NDArray[np.float32]
    second: NDArray[np.float32]
    count: int = 0

    @classmethod
    def zero(cls, matrix: NDArray[np.float32]) -> Moments:
        """Nothing remembered yet."""
        return cls(np.zeros_like(matrix), np.zeros_like(matrix))

    def updated(self, gradient: NDArray[np.float32]) -> Moments:
        """Take in one gradient."""
        return Moments(
            DECAY_FIRST * self.first + (1 - DECAY_FIRST) * gradient,
            DECAY_SECOND * self.second + (1 - DECAY_SECOND) * gradient * gradient,
            self.count + 1,
        )

    def stepped(
        self, matrix: NDArray[np.float32], *, rate: float, decay: float
    ) -> NDArray[np.float32]:
        """Move the matrix one step (arXiv 1711.05101, algorithm 2): decay apart from the slope."""
        first = self.first / (1 - DECAY_FIRST**self.count)
        spread = np.sqrt(self.second / (1 - DECAY_SECOND**self.count)) + TINY
        moved: NDArray[np.float32] = matrix * (1 - rate * decay) - rate * first / spread
        return moved


def _cosine(start: float, end: float, share: float) -> float:
    return float(end + (start - end) / 2 * (1 + np.cos(np.pi * share)))

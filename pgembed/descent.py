"""Gradient descent of a linear expert: its settings, InfoNCE and its gradient, the steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgembed.candidates import CandidateSettings, batches_of, labels_of
from pgembed.contrastive import TrainingProblem
from pgembed.errors import InputError, TrainingError
from pgembed.linear_expert import Floats
from pgembed.optimizer import Moments, one_cycle

Weights = tuple[Floats, Floats]
"""A (dimensions, rank) and B (rank, dimensions)."""

Pair = tuple[NDArray[np.float32], NDArray[np.float32]]
"""The same while training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearSettings(CandidateSettings):
    """How a linear expert is trained."""

    rank: int = 64
    learning_rate: float = 2e-3
    """Peak of the one-cycle schedule."""
    weight_decay: float = 0.05
    anchor: float = 0.3
    """Weight of how far the expert moves random chunks, which it should leave alone: it then
    changes queries like those that it learned from, and less what is unlike them."""
    steps: int = 900
    """For one problem; p problems take sqrt(p) times as many."""

    def __post_init__(self) -> None:
        CandidateSettings.__post_init__(self)
        if min(self.rank, self.steps) < 1:
            raise InputError(f"a count in {self} is too small")
        if self.learning_rate <= 0:
            raise InputError(f"the learning rate is above 0, not {self.learning_rate}")
        if not 0 <= self.anchor < np.inf:
            raise InputError(f"the weight of the anchor is 0 or more, not {self.anchor}")


ANCHORS = 256
"""Chunks a step that the expert should leave alone."""


def initial_weights(dimensions: int, rank: int, generator: np.random.Generator) -> Pair:
    """Draw A from N(0, 1 / dimensions), with B zero: the expert starts as the base."""
    A = generator.standard_normal((dimensions, rank), dtype=np.float32)
    return A / np.float32(np.sqrt(dimensions)), np.zeros((rank, dimensions), dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Descent:
    """Where a descent stands: with the generator's state, all that the next step needs."""

    step: int
    """Steps taken."""
    weights: Pair
    moments: tuple[Moments, Moments]

    @classmethod
    def start(cls, weights: Pair) -> Descent:
        """No step taken yet."""
        return cls(0, weights, (Moments.zero(weights[0]), Moments.zero(weights[1])))


def descend(
    problems: Sequence[TrainingProblem],
    settings: LinearSettings,
    state: Descent,
    steps: int,
    generator: np.random.Generator,
) -> Iterator[tuple[float, Descent]]:
    """Train step by step.

    Args:
        problems: each step draws one of them.
        settings: all but the number of steps.
        state: where to go on from.
        steps: length of the schedule.
        generator: of all that is random.

    Yields:
        The loss of each step, and where the descent stands after it.

    Raises:
        TrainingError: the loss is not finite.
    """
    sources = [batches_of(problem, settings) for problem in problems]
    while state.step < steps:
        source = sources[generator.integers(len(sources))]
        batch = source.draw(generator)
        loss, slopes = info_nce(
            state.weights,
            batch.queries,
            batch.candidates,
            batch.targets,
            batch.masked,
            temperature=settings.temperature,
            labels=labels_of(batch, settings),
        )
        if settings.anchor:
            chunks = source.problem.corpus.vectors
            anchors = chunks[generator.integers(len(chunks), size=ANCHORS)]
            moved, (by_A, by_B) = movement(state.weights, anchors)
            loss += settings.anchor * moved
            slopes = slopes[0] + settings.anchor * by_A, slopes[1] + settings.anchor * by_B
        step = state.step + 1
        if not np.isfinite(loss):
            raise TrainingError(f"the loss is {loss} at step {step}", hint="lower learning_rate")
        rate = one_cycle(state.step, steps, settings.learning_rate)
        first, second = (m.updated(s) for m, s in zip(state.moments, slopes, strict=True))
        A, B = (
            moments.stepped(matrix, rate=rate, decay=settings.weight_decay)
            for moments, matrix in zip((first, second), state.weights, strict=True)
        )
        state = Descent(step, (A, B), (first, second))
        yield loss, state


def info_nce(
    weights: Weights[Floats],
    queries: Floats,
    candidates: Floats,
    targets: NDArray[np.intp],
    masked: NDArray[np.bool_],
    *,
    temperature: float,
    labels: NDArray[np.floating] | None = None,
) -> tuple[float, Weights[Floats]]:
    """Cross-entropy of each query's target among the candidates (arXiv 1807.03748, equation 4).

    Args:
        weights: A and B of the map z -> unit(z + (z A) B).
        queries: shape (b, dimensions), unit length.
        candidates: shape (c, dimensions), unit length.
        targets: shape (b,), the right candidate of each query.
        masked: shape (b, c), True where a candidate takes no part; never at a target.
        temperature: similarities are divided by it.
        labels: shape (b, c), the share that each candidate should have, 0 where masked; None is
            all for the target.

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
    if labels is None:
        wanted = logits[rows, targets]
    else:
        wanted = np.sum(labels * np.where(masked, 0, logits), axis=1)
    loss = float(np.mean(np.log(totals[:, 0]) - wanted))
    shares /= totals
    if labels is None:
        shares[rows, targets] -= 1
    else:
        shares -= labels.astype(shares.dtype)
    by_direction = shares @ candidates / (temperature * len(rows))
    along = np.sum(by_direction * directions, axis=1, keepdims=True)
    by_mapped = (by_direction - along * directions) / lengths
    return loss, (queries.T @ (by_mapped @ B.T), hidden.T @ by_mapped)


def movement(weights: Weights[Floats], vectors: Floats) -> tuple[float, Weights[Floats]]:
    """How far an expert moves vectors: the mean squared length of what it adds to them.

    Args:
        weights: A and B of the map z -> unit(z + (z A) B).
        vectors: shape (n, dimensions), unit length.

    Returns:
        The mean, and its gradient by A and by B.
    """
    A, B = weights
    hidden = vectors @ A
    added: Any = hidden @ B
    by_added = added * 2 / len(vectors)
    mean = float(np.sum(added * added)) / len(vectors)
    return mean, (vectors.T @ (by_added @ B.T), hidden.T @ by_added)

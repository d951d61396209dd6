"""Soft labels: what another ranking, the teacher, says of a training query's candidates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pgembed.errors import InputError
from pgembed.ragged import Indices, Ragged, expand


class Teacher(Protocol):
    """Scores chunks for training queries, such as a fusion of dense and lexical scores."""

    def __call__(self, queries: Indices, chunks: Indices) -> NDArray[np.floating]:
        """Score candidates.

        Args:
            queries: rows of the problem's training queries, shape (b,).
            chunks: rows of the corpus, ascending, shape (c,).

        Returns:
            Shape (b, c); -inf where the teacher does not score a chunk, which gives it no share.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ListedScores:
    """A teacher that knows a ranked list for each query, and nothing of other chunks."""

    chunks: Ragged
    """Corpus rows of each query's list, ascending."""
    scores: NDArray[np.float32]
    """Beside ``chunks.values``."""

    @classmethod
    def of(cls, lists: Iterable[Mapping[int, float]]) -> ListedScores:
        """From the score of each listed chunk, one mapping for each training query."""
        ordered = [sorted(each.items()) for each in lists]
        scores = np.asarray([score for each in ordered for _, score in each], dtype=np.float32)
        if not np.isfinite(scores).all():
            raise InputError("a score of the teacher is not a finite number")
        return cls(Ragged.of([chunk for chunk, _ in each] for each in ordered), scores)

    def __call__(self, queries: Indices, chunks: Indices) -> NDArray[np.float32]:
        """Scores of the candidates that are listed, -inf elsewhere."""
        found = np.full((len(queries), len(chunks)), -np.inf, dtype=np.float32)
        owners, places = expand(self.chunks.starts[queries], self.chunks.starts[queries + 1])
        listed = self.chunks.values[places]
        columns = np.minimum(np.searchsorted(chunks, listed), len(chunks) - 1)
        known = chunks[columns] == listed
        found[owners[known], columns[known]] = self.scores[places[known]]
        return found


def soft_labels(
    scores: NDArray[np.floating],
    targets: Indices,
    masked: NDArray[np.bool_],
    *,
    temperature: float,
    weight: float,
) -> NDArray[np.floating]:
    """Mix the target of each query with the teacher's softmax over the candidates.

    The cross-entropy against these labels is (1 - weight) times that of the target plus weight
    times the Kullback-Leibler divergence from the teacher (Hinton et al., arXiv 1503.02531,
    section 2), up to the teacher's own entropy, which has no gradient.

    Args:
        scores: of the teacher, shape (b, c); -inf gets no share.
        targets: the right candidate of each query, shape (b,).
        masked: shape (b, c), candidates that take no part.
        temperature: the teacher's scores are divided by it.
        weight: from 0, the target alone, to 1, the teacher alone.

    Returns:
        Shape (b, c), rows that sum to 1; the target alone where the teacher scores no candidate.

    Raises:
        InputError: the scores do not have the shape of the candidates.
    """
    if scores.shape != masked.shape:
        raise InputError(f"the teacher's scores have shape {scores.shape}, not {masked.shape}")
    logits = np.where(masked, -np.inf, scores / temperature)
    highest = logits.max(axis=1, keepdims=True)
    silent = ~np.isfinite(highest[:, 0])
    labels: NDArray[np.floating] = np.exp(logits - np.where(silent[:, None], 0, highest))
    labels[silent, targets[silent]] = 1
    labels *= weight / labels.sum(axis=1, keepdims=True)
    labels[np.arange(len(targets)), targets] += 1 - weight
    return labels

"""Arithmetic of task vectors: what an expert adds to its encoder's weights, and ways to join it.

A task vector is a mapping of slots to matrices delta W (inputs, outputs), float64. A linear expert
has one slot, a LoRA expert one for each layer that it adapts. The factors A and B of a low-rank
delta W are never joined apart: an average of products is not the product of averages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pgembed.errors import InputError

Matrix = NDArray[np.float64]

Task = Mapping[str, Matrix]

PARALLEL = 1e-3
"""Angle in radians below which slerp is linear, because its formula divides by the sine."""

KEPT = 0.2
"""Share of the entries that TIES keeps of each task vector."""


def soup(tasks: Sequence[Task], weights: Sequence[float]) -> dict[str, Matrix]:
    """The weighted sum of task vectors, slot by slot; a slot that one lacks counts as zeros.

    Wortsman et al. (2022), "Model soups", arXiv 2203.05482, on the weights that differ.

    Raises:
        InputError: there are not as many weights as task vectors, or a slot has two shapes.
    """
    if len(tasks) != len(weights) or not tasks:
        raise InputError(f"{len(tasks)} task vectors have {len(weights)} weights")
    summed: dict[str, Matrix] = {}
    for task, weight in zip(tasks, weights, strict=True):
        for slot, delta in task.items():
            before = summed.get(slot)
            if before is not None and before.shape != delta.shape:
                raise InputError(f"slot {slot!r} has shapes {before.shape} and {delta.shape}")
            summed[slot] = weight * delta if before is None else before + weight * delta
    return summed


def slerp_weights(first: Task, second: Task, t: float) -> tuple[float, float]:
    """Weights of two task vectors in their spherical interpolation (Shoemake 1985).

    The angle is that between the two as flat vectors. Where they are parallel or one is zero, the
    weights are those of linear interpolation.

    Args:
        first: reached at t = 0.
        second: reached at t = 1.
        t: from 0 to 1.
    """
    lengths = np.sqrt(_dot(first, first)), np.sqrt(_dot(second, second))
    if not all(lengths):
        return 1 - t, t
    angle = float(np.arccos(np.clip(_dot(first, second) / (lengths[0] * lengths[1]), -1, 1)))
    if min(angle, np.pi - angle) < PARALLEL:
        return 1 - t, t
    return float(np.sin((1 - t) * angle) / np.sin(angle)), float(np.sin(t * angle) / np.sin(angle))


def ties(tasks: Sequence[Task], *, scale: float = 1.0, kept: float = KEPT) -> dict[str, Matrix]:
    """Trim, elect sign, merge: Yadav et al. (2023), "TIES-Merging", arXiv 2306.01708.

    Of each task vector the largest entries by magnitude stay, the others become 0. The sign of an
    entry is that of the sum; its value is the mean of those entries that are not 0 and have that
    sign.

    Args:
        tasks: at least one; a slot that one lacks counts as zeros.
        scale: factor of the result, the paper's lambda.
        kept: share of the entries that stays, over all slots of a task vector.
    """
    shapes = {slot: delta.shape for slot, delta in soup(tasks, [1.0] * len(tasks)).items()}
    flat = np.stack(
        [
            np.concatenate(
                [task.get(slot, np.zeros(shape)).ravel() for slot, shape in shapes.items()]
            )
            for task in tasks
        ]
    )
    trimmed = np.where(_largest(np.abs(flat), kept), flat, 0.0)
    agreeing = (np.sign(trimmed) == np.sign(trimmed.sum(axis=0))) & (trimmed != 0)
    joined = np.where(agreeing, trimmed, 0.0).sum(axis=0) / np.maximum(agreeing.sum(axis=0), 1)
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])
    parts = np.split(scale * joined, ends[:-1])
    return {slot: part.reshape(shapes[slot]) for slot, part in zip(shapes, parts, strict=True)}


def factored(
    task: Task, rank: int
) -> tuple[dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]], float]:
    """The nearest factors A (inputs, rank) and B (rank, outputs) of each slot, by truncated SVD.

    The singular values are shared evenly between both.

    Returns:
        The factors, and the discarded energy: the share of the squared singular values, over all
        slots, that a rank so low cannot hold.

    Raises:
        InputError: the rank is below 1.
    """
    if rank < 1:
        raise InputError(f"rank is {rank}; the least is 1")
    factors, kept, total = {}, 0.0, 0.0
    for slot, delta in task.items():
        left, values, right = np.linalg.svd(delta, full_matrices=False)
        roots = np.sqrt(values[:rank])
        A, B = np.zeros((len(delta), rank)), np.zeros((rank, delta.shape[1]))
        A[:, : len(roots)], B[: len(roots)] = left[:, :rank] * roots, roots[:, None] * right[:rank]
        factors[slot] = A.astype(np.float32), B.astype(np.float32)
        kept, total = kept + float((values[:rank] ** 2).sum()), total + float((values**2).sum())
    return factors, max(0.0, 1 - kept / total) if total else 0.0


def simplex(parts: int, steps: int) -> Iterator[tuple[float, ...]]:
    """All weights of so many parts that are multiples of 1 / steps and sum to 1."""
    for counts in _compositions(parts, steps):
        yield tuple(count / steps for count in counts)


def _compositions(parts: int, total: int) -> Iterator[tuple[int, ...]]:
    if parts == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for rest in _compositions(parts - 1, total - first):
            yield first, *rest


def _dot(first: Task, second: Task) -> float:
    return float(sum((first[slot] * second[slot]).sum() for slot in first.keys() & second.keys()))


def _largest(magnitudes: Matrix, share: float) -> NDArray[np.bool_]:
    count = max(1, round(share * magnitudes.shape[1]))
    thresholds = np.partition(magnitudes, -count, axis=1)[:, -count]
    return magnitudes >= thresholds[:, None]

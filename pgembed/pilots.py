"""How pilot embeddings are built from scored training queries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pgembed.errors import InputError, PgembedError
from pgembed.heads import Pilot
from pgembed.linear_expert import unit
from pgembed.model import Vector, Vectors

REFERENCES = 200
"""Centroids of a domain's training queries that a query is compared with, at most."""

SMALLEST_GROUP, SMALLEST_SHARE = 10, 0.05
"""A pilot stands for at least so many queries, and for at least this share of its domain."""


def best_expert_labels(
    performance: NDArray[np.floating], *, tie_margin: float = 0.01
) -> NDArray[np.intp]:
    """Say which expert serves each query best (arXiv 2409.02685, section 3).

    The paper is silent on ties; where the best is not ahead of the second by the margin, or
    every expert scores 0, the query says nothing about experts and is dropped.

    Args:
        performance: nDCG@10 of each expert for each query, shape (n, experts).
        tie_margin: smallest lead of the best; an exact tie is always dropped.

    Returns:
        Column of the best expert, or -1 where the query is dropped: shape (n,).
    """
    labels = np.argmax(performance, axis=1)
    best = performance[np.arange(len(labels)), labels]
    dropped = best <= 0
    if performance.shape[1] > 1:
        lead = best - np.partition(performance, -2, axis=1)[:, -2]
        dropped |= (lead < tie_margin) | (lead == 0)
    return np.where(dropped, -1, labels)


def build_pilots(
    domains: Mapping[str, tuple[Vectors, NDArray[np.floating]]],
    experts: Sequence[str],
    *,
    labels: Literal["instance", "domain"] = "instance",
    tie_margin: float = 0.01,
    min_group: int | None = None,
    k: int = 1,
) -> list[Pilot]:
    """Build the pilot library (arXiv 2409.02685, algorithm 1).

    ``instance`` is the paper: the training queries of a domain are grouped by their best expert,
    and each group gives that expert one pilot, its centroid. ``domain`` gives each domain one
    pilot, the centroid of all its queries, owned by the arm that is best on them on average.

    Args:
        domains: for each domain the base query vectors, float32 (n, dimensions), and the
            nDCG@10 of each expert for each of them, (n, experts).
        experts: names of the columns; ``base`` and ``general`` may be among them.
        labels: which of the two.
        tie_margin: for ``best_expert_labels``.
        min_group: smallest group that gives a pilot; the default is 10 queries or 5 % of the
            domain, whichever is more.
        k: pilots of a group, by k-means where it is above 1; fewer of a group with fewer queries.

    Returns:
        Pilots of unit length, sorted by expert and domain; the order of domains and of experts
        does not matter.

    Raises:
        InputError: shapes do not fit, or ``labels`` is neither of the two.
        PgembedError: k is above 1, but scikit-learn is missing.
    """
    if labels not in ("instance", "domain"):
        raise InputError(f'labels are "instance" or "domain", not "{labels}"')
    pilots = []
    for domain, (Z, performance) in domains.items():
        if performance.shape != (len(Z), len(experts)):
            raise InputError(
                f'domain "{domain}" has {len(Z)} queries and {len(experts)} experts, '
                f"but its performance has shape {performance.shape}"
            )
        if labels == "domain":
            groups = [(_best_on_average(performance, experts), Z)] if len(Z) else []
        else:
            groups = _groups(Z, performance, experts, tie_margin, min_group)
        pilots += [
            Pilot(name, domain, len(part), _centroid(part), number)
            for name, group in groups
            for number, part in enumerate(_parts(group, k))
        ]
    return sorted(pilots, key=lambda pilot: (pilot.expert, pilot.domain, pilot.number))


def _best_on_average(performance: NDArray[np.floating], experts: Sequence[str]) -> str:
    averages = dict(zip(experts, performance.mean(axis=0, dtype=np.float64), strict=True))
    return max(sorted(averages), key=lambda name: averages[name])


def _groups(
    Z: Vectors,
    performance: NDArray[np.floating],
    experts: Sequence[str],
    tie_margin: float,
    min_group: int | None,
) -> list[tuple[str, Vectors]]:
    if min_group is None:
        min_group = max(SMALLEST_GROUP, math.ceil(SMALLEST_SHARE * len(Z)))
    labels = best_expert_labels(performance, tie_margin=tie_margin)
    groups = [(name, Z[labels == column]) for column, name in enumerate(experts)]
    return [(name, group) for name, group in groups if len(group) >= max(1, min_group)]


def references_of(queries: Vectors, at_most: int = REFERENCES) -> Vectors:
    """Unit centroids of parts of a domain's training queries, by k-means; few stay themselves.

    Args:
        queries: base embeddings, float32, shape (n, dimensions).
        at_most: how many centroids.

    Returns:
        float32, shape (min(n, at_most), dimensions), or fewer where queries are alike.

    Raises:
        PgembedError: there are more queries than that, but scikit-learn is missing.
    """
    if len(queries) <= at_most:
        return queries
    return np.stack([_centroid(part) for part in _parts(queries, at_most, starts=1)])


def _parts(group: Vectors, k: int, *, starts: int = 10) -> list[Vectors]:
    """The group in k parts by k-means, with the seed of the paper's code."""
    if min(k, len(group)) == 1:
        return [group]
    try:
        from sklearn.cluster import KMeans
    except ImportError as error:
        raise PgembedError(
            "queries are clustered by scikit-learn, which is not installed",
            hint="pip install 'pgembed-router[router]'",
        ) from error
    labels = KMeans(min(k, len(group)), n_init=starts, random_state=42).fit_predict(group)
    return [group[labels == number] for number in range(k) if np.any(labels == number)]


def _centroid(group: Vectors) -> Vector:
    mean: NDArray[np.float64] = group.mean(axis=0, dtype=np.float64)
    return unit(mean).astype(np.float32)

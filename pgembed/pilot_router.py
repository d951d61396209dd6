"""The pilot router: which experts answer a query, by its similarity to their pilot embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from pgembed.errors import InputError, NotFoundError
from pgembed.linear_expert import unit
from pgembed.model import Mode, Route, Vector, Vectors

BASE = "base"
"""The arm that leaves a query as it is."""

Weighting = tuple[tuple[str, ...], NDArray[np.float64]]
"""Arms sorted by name, and a matrix (queries, arms) whose rows sum to 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Pilot:
    """A centroid of queries that an expert serves best."""

    expert: str
    domain: str
    n: int
    """Queries behind the centroid."""
    centroid: Vector
    """float32, shape (dimensions,), in the base's space."""


@dataclass(frozen=True, slots=True)
class RouterParameters:
    """What ``soft`` routing needs beside the pilots.

    Raises:
        InputError: the temperature is not above 0, or the standing weights are negative or sum
            to more than 1.
    """

    temperature: float = 0.05
    """Mean similarities are divided by it before the softmax."""
    standing: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Weight that an arm (the base, a general expert) has in every answer."""

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(f"the temperature is above 0, not {self.temperature}")
        weights = list(self.standing.values())
        # A hair above 1 is rounding: .1 + .2 + .7 is not 1 in binary.
        if any(not weight >= 0 for weight in weights) or sum(weights) > 1 + 1e-9:
            raise InputError(f"standing weights sum to at most 1, unlike {dict(self.standing)}")


@dataclass(frozen=True, slots=True, eq=False)
class PilotRouter:
    """Routes by the mean cosine similarity to an expert's pilots.

    RouterRetriever (arXiv 2409.02685, section 3): the expert whose pilots are most similar on
    average answers. Soft mixing and standing arms are ours.
    """

    pilots: Sequence[Pilot]
    parameters: RouterParameters = field(default_factory=RouterParameters)
    others: Sequence[str] = ()
    """Experts without a pilot, which can be asked for by name."""
    names: tuple[str, ...] = field(init=False)
    """Experts with a pilot, sorted."""
    means: NDArray[np.float64] = field(init=False, repr=False)
    """Mean of each expert's unit pilots, shape (experts, dimensions): a query's dot product with
    it is the mean of its cosine similarities."""

    def __post_init__(self) -> None:
        groups: dict[str, list[Vector]] = {}
        for pilot in sorted(self.pilots, key=lambda pilot: (pilot.expert, pilot.domain)):
            groups.setdefault(pilot.expert, []).append(pilot.centroid)
        names = tuple(sorted(groups))
        means = [unit(np.asarray(groups[name], dtype=np.float64)).mean(axis=0) for name in names]
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "means", np.asarray(means, dtype=np.float64))

    def scores(self, Z: Vectors) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """Score every expert that has a pilot.

        Args:
            Z: base query vectors, float32, shape (n, dimensions), unit length.

        Returns:
            Experts sorted by name, and their mean similarities, float64, shape (n, experts).
        """
        if not self.names:
            return (), np.zeros((len(Z), 0))
        return self.names, Z.astype(np.float64) @ self.means.T

    def weights(self, Z: Vectors, mode: Mode = "soft") -> Weighting:
        """Weigh the arms for each query.

        ``hard`` gives 1 to the most similar expert, the first by name among equals. ``soft``
        gives standing arms their weight and shares the rest by a softmax of the similarities;
        an arm that is both gets both. Without pilots the base takes what the experts would get.
        ``base`` or an expert's name gives 1 to that arm.

        Args:
            Z: base query vectors, float32, shape (n, dimensions), unit length.
            mode: ``soft``, ``hard``, ``base`` or the name of an expert.

        Raises:
            NotFoundError: no expert has this name.
        """
        if mode == "soft":
            return self._soft(Z)
        if mode == "hard" and self.names:
            return self.names, np.eye(len(self.names))[np.argmax(self.scores(Z)[1], axis=1)]
        arm = BASE if mode == "hard" else mode
        known = {BASE, *self.names, *self.parameters.standing, *self.others}
        if arm not in known:
            raise NotFoundError(
                f'there is no expert "{arm}"', hint=f"known are {', '.join(sorted(known))}"
            )
        return (arm,), np.ones((len(Z), 1))

    def route(self, z: Vector, mode: Mode = "soft") -> Route:
        """Explain how one query is answered.

        Args:
            z: its base vector, float32, shape (dimensions,), unit length.
            mode: as for ``weights``.

        Raises:
            NotFoundError: no expert has this name.
        """
        arms, weights = self.weights(z[None, :], mode)
        names, scores = self.scores(z[None, :])
        similar = dict(zip(names, scores[0].tolist(), strict=True))
        taking_part = zip(arms, weights[0].tolist(), strict=True)
        return Route(
            mode=mode,
            weights={arm: weight for arm, weight in taking_part if weight > 0},
            scores=similar,
            reason=_reason(similar, mode),
        )

    def _soft(self, Z: Vectors) -> Weighting:
        standing = self.parameters.standing
        arms = tuple(sorted({BASE, *self.names, *standing}))
        fixed = np.asarray([standing.get(arm, 0.0) for arm in arms], dtype=np.float64)
        weights = np.tile(fixed, (len(Z), 1))
        rest = max(0.0, 1 - float(fixed.sum()))
        if not self.names:
            weights[:, arms.index(BASE)] += rest
            return arms, weights
        logits = self.scores(Z)[1] / self.parameters.temperature
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        columns = [arms.index(name) for name in self.names]
        weights[:, columns] += rest * shares / shares.sum(axis=1, keepdims=True)
        return arms, weights


def mix(Z: Vectors, weights: Weighting, vectors: Mapping[str, Vectors]) -> Vectors:
    """Mix the arms' query vectors into one.

    Documents are shared, so ranking by the mix is ranking by the weighted sum of the arms'
    scores: the sum over e of w_e (e(z) . d) is (the sum over e of w_e e(z)) . d.

    Args:
        Z: base query vectors, float32, shape (n, dimensions), unit length: the arm ``base``.
        weights: what ``PilotRouter.weights`` returned for them.
        vectors: each other arm's unit query vectors, shape (n, dimensions).

    Returns:
        float32, shape (n, dimensions), unit length.

    Raises:
        NotFoundError: an arm has weight but no vectors.
    """
    arms, shares = weights
    total = np.zeros(Z.shape, dtype=np.float64)
    for number, arm in enumerate(arms):
        share = shares[:, number, None]
        if share.any():
            total += share * _vectors_of(arm, Z, vectors)
    return unit(total).astype(np.float32)


def _vectors_of(arm: str, Z: Vectors, vectors: Mapping[str, Vectors]) -> Vectors:
    if arm in vectors:
        return vectors[arm]
    if arm == BASE:
        return Z
    raise NotFoundError(f'the expert "{arm}" has weight but no query vectors')


def _reason(scores: Mapping[str, float], mode: str) -> str:
    if mode not in ("soft", "hard"):
        return f'"{mode}" was asked for'
    if not scores:
        return "no expert has pilot embeddings, so the base answers"
    (top, best), *rest = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    if not rest:
        return f'"{top}" is the only expert with pilot embeddings (similarity {best:.3f})'
    second, score = rest[0]
    return f'"{top}" is most similar ({best:.3f}), {best - score:.3f} ahead of "{second}"'

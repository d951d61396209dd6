"""The router: which arms answer a query, by a head, standing arms and an out-of-domain fallback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pgembed.errors import InputError, NotFoundError
from pgembed.heads import (
    BASE,
    TIE_DIGITS,
    Embeddings,
    Head,
    Matrix,
    References,
    rounded,
)
from pgembed.linear_expert import unit
from pgembed.model import Mode, Route, Vector, Vectors

Weighting = tuple[tuple[str, ...], NDArray[np.float64]]
"""Arms sorted by name, and a matrix (queries, arms) whose rows sum to 1."""

NEIGHBOURS = 3
"""References whose mean similarity tells whether a query is in domain: docs/decisions.md has what
was compared."""


class Router(Protocol):
    """What every router offers."""

    def weights(self, Z: Vectors, mode: Mode = "soft") -> Weighting:
        """Weigh the arms for each query."""

    def route(self, z: Vector, mode: Mode = "soft") -> Route:
        """Explain how one query is answered."""


@dataclass(frozen=True, slots=True, eq=False)
class Fallback:
    """Who answers queries that are unlike everything that was judged.

    Raises:
        InputError: the width is not above 0, or the weights do not sum to 1.
    """

    threshold: float
    """Mean cosine similarity to the nearest references at which both sides count alike."""
    width: float
    """How gently one side hands over to the other."""
    references: Vectors
    """Centroids of training queries, of unit length: float32, shape (r, dimensions)."""
    weights: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({BASE: 1.0}))
    """Arms that answer then."""
    known: References = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", References(self.references))
        if not self.width > 0:
            raise InputError(f"the width of a fallback is above 0, not {self.width}")
        if any(not w >= 0 for w in self.weights.values()) or not np.isclose(
            sum(self.weights.values()), 1
        ):
            raise InputError(f"the weights of a fallback sum to 1, unlike {dict(self.weights)}")

    def similarity(self, Z: Embeddings) -> Matrix:
        """Mean cosine to the nearest references, shape (n,)."""
        means: Matrix = self.known.nearest(Z, NEIGHBOURS)[1].mean(axis=1)
        return means

    def kept(self, similarity: Matrix) -> Matrix:
        """Share, from 0 to 1, that the router keeps of queries with these mean cosines: (n,)."""
        away = np.clip((self.threshold - similarity) / self.width, -700, 700)
        kept: Matrix = 1 / (1 + np.exp(away))
        return kept


@dataclass(frozen=True, slots=True)
class RouterParameters:
    """What ``soft`` routing needs beside the head.

    Raises:
        InputError: the temperature is not above 0, the standing weights are negative or sum to
            more than 1, no arm is kept, or the minimum share is not from 0 to 1.
    """

    temperature: float = 0.05
    """Scores are divided by it before the softmax."""
    standing: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Weight that an arm (the base, a general expert) has in every answer."""
    top: int | None = None
    """Arms of the head that are kept, the heaviest; None keeps all."""
    minimum_share: float = 0.0
    """Share that an arm of the head needs to be kept, as a part of the heaviest one's."""

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(f"the temperature is above 0, not {self.temperature}")
        weights = list(self.standing.values())
        # A hair above 1 is rounding: .1 + .2 + .7 is not 1 in binary.
        if any(not weight >= 0 for weight in weights) or sum(weights) > 1 + 1e-9:
            raise InputError(f"standing weights sum to at most 1, unlike {dict(self.standing)}")
        if self.top is not None and self.top < 1:
            raise InputError(f"at least one arm is kept, not {self.top}")
        if not 0 <= self.minimum_share <= 1:
            raise InputError(f"the minimum share is from 0 to 1, not {self.minimum_share}")


@dataclass(frozen=True, slots=True, eq=False)
class _Mixed:
    """What ``soft`` routing of a router needs that no query changes."""

    arms: tuple[str, ...]
    """That may have weight, sorted; the other arrays go by them."""
    standing: Matrix
    rest: float
    """What standing arms leave."""
    columns: NDArray[np.intp]
    """Arms that share it: the head's, or base where it has none."""
    refuge: Matrix
    """Weights out of domain."""

    @classmethod
    def of(cls, router: ArmRouter) -> _Mixed:
        """Of a router."""
        arms, standing = tuple(sorted(router.arms)), router.parameters.standing
        refuge = router.fallback.weights if router.fallback is not None else {}
        return cls(
            arms,
            np.asarray([standing.get(arm, 0.0) for arm in arms], dtype=np.float64),
            max(0.0, 1 - sum(standing.values())),
            np.asarray([arms.index(arm) for arm in router.names or (BASE,)], dtype=np.intp),
            np.asarray([refuge.get(arm, 0.0) for arm in arms], dtype=np.float64),
        )


@dataclass(frozen=True, slots=True, eq=False)
class ArmRouter:
    """Routes by a head; soft mixing, standing arms and the fallback are alike for every head."""

    head: Head
    parameters: RouterParameters = field(default_factory=RouterParameters)
    others: Sequence[str] = ()
    """Experts that the head does not know, which can be asked for by name."""
    fallback: Fallback | None = None
    _mixed: _Mixed = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_mixed", _Mixed.of(self))

    @property
    def names(self) -> tuple[str, ...]:
        """Arms that the head may choose, sorted."""
        return self.head.arms

    @property
    def arms(self) -> set[str]:
        """Arms that may have weight in an answer."""
        refuge = self.fallback.weights if self.fallback is not None else {}
        return {BASE, *self.names, *self.parameters.standing, *refuge}

    def scores(self, Z: Vectors) -> Weighting:
        """The head's labels, and how well each fits each query: float64, shape (n, labels)."""
        return self.head.labels, self.head.scores(_directions(Z))

    def weights(self, Z: Vectors, mode: Mode = "soft") -> Weighting:
        """Weigh the arms for each query.

        ``hard`` gives 1 to the arm with the largest share, the first by name among equals, or to
        the fallback's where the query is out of domain. ``soft`` gives standing arms their weight
        and shares out the rest as the head says; an arm that is both gets both; the further out
        of domain, the more the fallback's arms get of all of it. Without a head's arms the base
        takes what the head would get. ``base`` or an expert's name gives 1 to that arm.

        Args:
            Z: base query vectors, float32, shape (n, dimensions), unit length.
            mode: ``soft``, ``hard``, ``base`` or the name of an expert.

        Raises:
            NotFoundError: no expert has this name.
        """
        directions = _directions(Z)
        return self._weights(directions, mode, self._similarity(directions, mode))

    def _similarity(self, Z: Matrix, mode: Mode) -> Matrix | None:
        """Mean cosine to the nearest references, where a fallback asks for it."""
        if self.fallback is None or mode not in ("soft", "hard"):
            return None
        return self.fallback.similarity(Z)

    def _weights(self, Z: Matrix, mode: Mode, similarity: Matrix | None) -> Weighting:
        if mode == "soft":
            return self._soft(Z, similarity)
        if mode == "hard":
            return self._hard(Z, similarity)
        known = {BASE, *self.names, *self.parameters.standing, *self.others}
        if mode not in known:
            raise NotFoundError(
                f'there is no expert "{mode}"', hint=f"known are {', '.join(sorted(known))}"
            )
        return (mode,), np.ones((len(Z), 1))

    def route(self, z: Vector, mode: Mode = "soft", *, explained: bool = True) -> Route:
        """Explain how one query is answered.

        Args:
            z: its base vector, float32, shape (dimensions,), unit length.
            mode: as for ``weights``.
            explained: with scores and reason, which take time.

        Raises:
            NotFoundError: no expert has this name.
        """
        Z = _directions(z[None, :])
        similarity = self._similarity(Z, mode)
        arms, weights = self._weights(Z, mode, similarity)
        taking_part = zip(arms, weights[0].tolist(), strict=True)
        route = Route(mode, {arm: weight for arm, weight in taking_part if weight > 0})
        if not explained:
            return route
        fitting = dict(zip(self.head.labels, self.head.scores(Z)[0].tolist(), strict=True))
        return replace(route, scores=fitting, reason=self._reason(Z[0], mode, similarity))

    def _hard(self, Z: Matrix, similarity: Matrix | None) -> Weighting:
        arms = self.names or (BASE,)
        shares = np.ones((len(Z), 1))
        if self.names:
            shares = self.head.shares(Z, self.parameters.temperature)
        chosen = np.asarray(arms)[np.argmax(rounded(shares), axis=1)]
        if self.fallback is not None and similarity is not None:
            refuge = min(self.fallback.weights.items(), key=_heaviest)[0]
            chosen = np.where(np.round(self.fallback.kept(similarity), 9) < 0.5, refuge, chosen)
            arms = tuple(sorted({*arms, refuge}))
        return arms, (chosen[:, None] == np.asarray(arms)).astype(np.float64)

    def _soft(self, Z: Matrix, similarity: Matrix | None) -> Weighting:
        mixed = self._mixed
        weights = np.tile(mixed.standing, (len(Z), 1))
        weights[:, mixed.columns] += mixed.rest * (self._shares(Z) if self.names else 1)
        if self.fallback is None or similarity is None:
            return mixed.arms, weights
        kept = self.fallback.kept(similarity)[:, None]
        return mixed.arms, kept * weights + (1 - kept) * mixed.refuge

    def _shares(self, Z: Matrix) -> Matrix:
        """Shares of the head's arms that are kept; compared are those that the head gives."""
        kept = shares = self.head.shares(Z, self.parameters.temperature)
        minimum, top = self.parameters.minimum_share, self.parameters.top
        if minimum:
            needed = minimum * shares.max(axis=1, keepdims=True)
            kept = np.where(rounded(shares) >= rounded(needed), shares, 0)
        if top is not None and top < shares.shape[1]:
            # A stable sort takes the first by name among equals.
            order = np.argsort(-rounded(shares), axis=1, kind="stable")
            kept = kept.copy()
            np.put_along_axis(kept, order[:, top:], 0, axis=1)
        scaled: Matrix = kept / kept.sum(axis=1, keepdims=True)
        return scaled

    def _reason(self, z: Matrix, mode: str, similarity: Matrix | None) -> str:
        if mode not in ("soft", "hard"):
            return f'"{mode}" was asked for'
        reason = self.head.reason(z, self.parameters.temperature)
        if self.fallback is not None and similarity is not None:
            kept = float(self.fallback.kept(similarity)[0])
            reason += f"; similarity to judged queries {similarity[0]:.3f}: {kept:.0%} in domain"
        return reason


def mix(Z: Vectors, weights: Weighting, vectors: Mapping[str, Vectors]) -> Vectors:
    """Mix the arms' query vectors into one.

    Documents are shared, so ranking by the mix is ranking by the weighted sum of the arms'
    scores: the sum over e of w_e (e(z) . d) is (the sum over e of w_e e(z)) . d.

    Args:
        Z: base query vectors, float32, shape (n, dimensions), unit length: the arm ``base``.
        weights: what ``weights`` of a router returned for them.
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


def _directions(Z: Vectors) -> Matrix:
    """What heads take as it is, made of whatever callers have."""
    return unit(Z.astype(np.float64))


def _heaviest(item: tuple[str, float]) -> tuple[float, str]:
    """Sorts arms by weight, the heaviest first, equal ones by name."""
    arm, weight = item
    return -round(weight, TIE_DIGITS), arm

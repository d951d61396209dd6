"""What a router knows of a query: which experts, or which domains, its base embedding points to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pgembed.errors import InputError
from pgembed.linear_expert import unit
from pgembed.model import Vector, Vectors

BASE = "base"
"""The arm that leaves a query as it is."""

TIE_DIGITS = 12
"""Decimals that count when shares and similarities are compared, here and in SQL."""

SCREENING_ERROR = np.float32(1e-5)
"""More than a cosine of 1,000 dimensions is off in single precision."""

Matrix = NDArray[np.float64]

Embeddings = Vectors | Matrix
"""Base query vectors: float32, shape (n, dimensions), unit length; or their ``directions_of``."""

Utility = Mapping[str, Mapping[str, float]]
"""For each domain the share of each arm: at least 0, and 1 in sum."""


class Head(Protocol):
    """Shares of the arms by a query's base embedding; standing arms and fallback come later."""

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms that it may choose, sorted; none where nothing was built yet."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What ``scores`` has columns for: experts, or domains."""

    def scores(self, Z: Embeddings) -> Matrix:
        """How well each label fits each query: (n, labels), in the unit of the kind."""

    def shares(self, Z: Embeddings, temperature: float) -> Matrix:
        """Share of each arm for each query: (n, arms), rows sum to 1.

        Args:
            Z: base query vectors, shape (n, dimensions), or their directions.
            temperature: scores are divided by it before the softmax.
        """

    def reason(self, z: Vector | Matrix, temperature: float) -> str:
        """In words why one query gets its shares."""


@dataclass(frozen=True, slots=True, eq=False)
class Pilot:
    """A centroid of queries that an expert serves best."""

    expert: str
    domain: str
    n: int
    """Queries behind the centroid."""
    centroid: Vector
    """float32, shape (dimensions,), in the base's space."""
    number: int = 0
    """Tells the pilots of one expert and domain apart."""


@dataclass(frozen=True, slots=True, eq=False)
class PilotHead:
    """Scores an expert by the cosine similarity of its pilots: their mean, or the greatest.

    The mean is RouterRetriever (arXiv 2409.02685, section 3), the greatest what its code does.
    """

    pilots: Sequence[Pilot]
    aggregate: Literal["mean", "max"] = "mean"
    arms: tuple[str, ...] = field(init=False)
    directions: Matrix = field(init=False, repr=False)
    """Unit pilots, grouped by expert: shape (pilots, dimensions)."""
    starts: NDArray[np.intp] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.aggregate not in ("mean", "max"):
            raise InputError(f"pilots are aggregated by mean or max, not by {self.aggregate!r}")
        ordered = sorted(self.pilots, key=lambda p: (p.expert, p.domain, p.number))
        names = [pilot.expert for pilot in ordered]
        arms = tuple(sorted(set(names)))
        centroids = [np.asarray(pilot.centroid, dtype=np.float64) for pilot in ordered]
        object.__setattr__(self, "arms", arms)
        object.__setattr__(self, "directions", unit(np.asarray(centroids, dtype=np.float64)))
        object.__setattr__(
            self, "starts", np.asarray([names.index(arm) for arm in arms], dtype=np.intp)
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """Experts with a pilot."""
        return self.arms

    def scores(self, Z: Embeddings) -> Matrix:
        """Similarity of each expert, (n, experts)."""
        if not self.arms:
            return np.zeros((len(Z), 0))
        similar = directions_of(Z) @ self.directions.T
        if self.aggregate == "max":
            return np.maximum.reduceat(similar, self.starts, axis=1)
        counts = np.diff(np.append(self.starts, len(self.directions)))
        means: Matrix = np.add.reduceat(similar, self.starts, axis=1) / counts
        return means

    def shares(self, Z: Embeddings, temperature: float) -> Matrix:
        """Softmax of the similarities."""
        return softmax(self.scores(Z) / temperature)

    def reason(self, z: Vector | Matrix, temperature: float) -> str:
        """Which expert's pilots are most similar, and by how much."""
        if not self.arms:
            return "no expert has pilot embeddings, so the base answers"
        (top, best), *rest = _ordered(self.arms, self.scores(z[None])[0])
        if not rest:
            return f'"{top}" is the only expert with pilot embeddings (similarity {best:.3f})'
        second, score = rest[0]
        return f'"{top}" is most similar ({best:.3f}), {best - score:.3f} ahead of "{second}"'


@dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """Scores domains by a linear function of the query, and gives each domain's arms their share.

    Linear discriminant analysis and logistic regression on domain labels are both of this form.
    """

    domains: tuple[str, ...]
    directions: Matrix
    """Shape (domains, dimensions)."""
    biases: Matrix
    """Shape (domains,)."""
    utility: Utility
    arms: tuple[str, ...] = field(init=False)
    arm_shares: Matrix = field(init=False, repr=False)
    """The utility as a matrix, (domains, arms)."""

    def __post_init__(self) -> None:
        arms = arms_of(self.domains, self.utility)
        object.__setattr__(self, "arms", arms)
        object.__setattr__(self, "arm_shares", share_matrix(self.domains, arms, self.utility))

    @property
    def labels(self) -> tuple[str, ...]:
        """The domains."""
        return self.domains

    def scores(self, Z: Embeddings) -> Matrix:
        """Log-probability of each domain up to a constant of the query, (n, domains)."""
        if not self.domains:
            return np.zeros((len(Z), 0))
        return directions_of(Z) @ self.directions.T + self.biases

    def probabilities(self, Z: Embeddings, temperature: float) -> Matrix:
        """How likely a query is of each domain, (n, domains)."""
        return softmax(self.scores(Z) / temperature)

    def shares(self, Z: Embeddings, temperature: float) -> Matrix:
        """Probabilities of the domains times the shares of their arms."""
        return self.probabilities(Z, temperature) @ self.arm_shares

    def reason(self, z: Vector | Matrix, temperature: float) -> str:
        """Which domain is most likely, and how likely."""
        return _likeliest(self.domains, self.probabilities(z[None], temperature)[0])


@dataclass(frozen=True, slots=True, eq=False)
class NeighbourHead:
    """Lets the references nearest to a query vote for their domain."""

    references: Vectors
    """Centroids of training queries, of unit length: float32, shape (r, dimensions)."""
    owners: tuple[str, ...]
    """Domain of each."""
    utility: Utility
    neighbours: int = 10
    domains: tuple[str, ...] = field(init=False)
    arms: tuple[str, ...] = field(init=False)
    arm_shares: Matrix = field(init=False, repr=False)
    """The utility as a matrix, (domains, arms)."""
    known: References = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise InputError(f"at least one neighbour votes, not {self.neighbours}")
        domains = tuple(sorted(set(self.owners)))
        object.__setattr__(self, "known", References(self.references))
        object.__setattr__(self, "domains", domains)
        arms = arms_of(domains, self.utility)
        object.__setattr__(self, "arms", arms)
        object.__setattr__(self, "arm_shares", share_matrix(domains, arms, self.utility))

    @property
    def labels(self) -> tuple[str, ...]:
        """The domains."""
        return self.domains

    def scores(self, Z: Embeddings) -> Matrix:
        """Share of each domain among the neighbours, (n, domains)."""
        return self.probabilities(Z, np.inf)

    def shares(self, Z: Embeddings, temperature: float) -> Matrix:
        """Probabilities of the domains times the shares of their arms."""
        return self.probabilities(Z, temperature) @ self.arm_shares

    def reason(self, z: Vector | Matrix, temperature: float) -> str:
        """Which domain is most likely, and how likely."""
        return _likeliest(self.domains, self.probabilities(z[None], temperature)[0])

    def probabilities(self, Z: Embeddings, temperature: float) -> Matrix:
        """Votes for each domain, which count the more the closer the neighbour: (n, domains)."""
        votes = np.zeros((len(Z), len(self.domains)))
        if not self.domains:
            return votes
        rows, similar = self.known.nearest(Z, self.neighbours)
        weights = softmax(similar / temperature)
        columns = np.asarray([self.domains.index(owner) for owner in self.owners])[rows]
        np.add.at(votes, (np.arange(len(Z))[:, None], columns), weights)
        return votes


@dataclass(frozen=True, slots=True, eq=False)
class ConstantHead:
    """Gives every query the same shares: ``fixed``, and ``uniform`` with equal ones."""

    weights: Mapping[str, float]
    """At least 0; scaled to 1 in sum."""
    arms: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "arms", tuple(sorted(a for a, w in self.weights.items() if w > 0)))

    @property
    def labels(self) -> tuple[str, ...]:
        """None: the query does not matter."""
        return ()

    def scores(self, Z: Embeddings) -> Matrix:
        """Nothing is compared, (n, 0)."""
        return np.zeros((len(Z), 0))

    def shares(self, Z: Embeddings, temperature: float) -> Matrix:
        """The weights, whatever the query and the temperature."""
        row = np.asarray([self.weights[arm] for arm in self.arms], dtype=np.float64)
        return np.tile(row / row.sum() if len(row) else row, (len(Z), 1))

    def reason(self, z: Vector | Matrix, temperature: float) -> str:
        """That the query does not matter."""
        if not self.arms:
            return "the router has no active expert, so the base answers"
        return "the router gives every query the same experts"


def directions_of(Z: Embeddings) -> Matrix:
    """Unit vectors in double precision: a temperature magnifies what single leaves of length.

    What is in double precision already is taken as it is: whoever asks several times asks with
    the directions.
    """
    directions: Matrix = Z if Z.dtype == np.float64 else unit(Z.astype(np.float64))  # type: ignore[assignment]
    return directions


def softmax(logits: Matrix) -> Matrix:
    """Softmax over the last axis; an empty axis stays empty."""
    if not logits.shape[-1]:
        return logits
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Matrix = powers / powers.sum(axis=-1, keepdims=True)
    return shares


@dataclass(frozen=True, slots=True, eq=False)
class References:
    """What queries are compared with: screened in single precision, compared in double."""

    vectors: Vectors
    """float32, shape (r, dimensions)."""
    columns: Vectors = field(init=False, repr=False)
    """The same at unit length, (dimensions, r): a query's product with them then reads in order."""

    def __post_init__(self) -> None:
        vectors = np.asarray(self.vectors, dtype=np.float32)
        units = unit(vectors.astype(np.float64)).astype(np.float32)
        object.__setattr__(self, "vectors", vectors)
        object.__setattr__(self, "columns", np.ascontiguousarray(units.T))

    def nearest(self, Z: Embeddings, k: int) -> tuple[NDArray[np.intp], Matrix]:
        """Rows of the k nearest to each query, and their cosines: both (n, min(k, r)).

        Equal cosines go to the earlier row.
        """
        k = min(k, len(self.vectors))
        directions = directions_of(Z)
        screened = directions.astype(np.float32) @ self.columns
        least = np.partition(screened, -k, axis=1)[:, -k] - SCREENING_ERROR
        rows = np.empty((len(Z), k), dtype=np.intp)
        cosines = np.empty((len(Z), k))
        for number, direction in enumerate(directions):
            near = np.flatnonzero(screened[number] >= least[number])
            exact = directions_of(self.vectors[near]) @ direction
            order = np.argsort(-rounded(exact), kind="stable")[:k]
            rows[number], cosines[number] = near[order], exact[order]
        return rows, cosines


def rounded(shares: Matrix) -> Matrix:
    """For comparisons: what differs by rounding alone is a tie."""
    return np.round(shares, TIE_DIGITS)


def arms_of(domains: Sequence[str], utility: Utility) -> tuple[str, ...]:
    """Arms that any of the domains gives a share to, sorted; base for a domain without arms."""
    return tuple(sorted({arm for domain in domains for arm in utility.get(domain) or {BASE: 1.0}}))


def share_matrix(domains: Sequence[str], arms: Sequence[str], utility: Utility) -> Matrix:
    """Shares as a matrix (domains, arms), rows scaled to 1 in sum."""
    shares = np.zeros((len(domains), len(arms)))
    for row, domain in enumerate(domains):
        found = utility.get(domain) or {BASE: 1.0}
        total = sum(found.values())
        for arm, share in found.items():
            shares[row, arms.index(arm)] = share / total
    return shares


def _ordered(labels: Sequence[str], scores: Matrix) -> list[tuple[str, float]]:
    """Labels with their scores, the highest first, equal ones by name."""
    named = zip(labels, scores.tolist(), strict=True)
    return sorted(named, key=lambda item: (-item[1], item[0]))


def _likeliest(domains: Sequence[str], probabilities: Matrix) -> str:
    if not domains:
        return "the router knows no domain, so the base answers"
    (top, first), *rest = _ordered(domains, probabilities)
    reason = f'domain "{top}" is most likely ({first:.2f})'
    return f'{reason}, then "{rest[0][0]}" ({rest[0][1]:.2f})' if rest else reason

"""What experts were trained on, as the database keeps it: points, weights and thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pgvector import Vector

from pgembed.database import Connection, rows_of, translated
from pgembed.errors import NotFoundError
from pgembed.linear_expert import unit
from pgembed.rkme import Points, ReducedSet, median_gamma, reduce, same_domain_quantile

Side = Literal["query", "document"]


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """One side of what an expert was trained on."""

    expert: str
    state: str
    reduced: ReducedSet
    centroid: Points
    quantile: float
    """The 95 % quantile of the discrepancy between samples of it."""


def expert_domain(connection: Connection, encoder: str, expert: str) -> str | None:
    """The domain that an expert was trained on; None for all.

    Raises:
        NotFoundError: the encoder has no such expert.
    """
    with translated():
        rows = rows_of(
            connection,
            "select name, domain from pgembed.expert where encoder = %s and kind <> 'base'",
            (encoder,),
        )
    domains = dict(rows)
    if expert not in domains:
        raise NotFoundError(
            f"encoder {encoder!r} has no expert {expert!r}",
            hint=f"Its experts are {', '.join(sorted(domains)) or 'none'}.",
        )
    found: str | None = domains[expert]
    return found


def store_domain(
    connection: Connection, encoder: str, expert: str, side: Side, X: Points, *, size: int
) -> None:
    """Reduce one side of what an expert was trained on, and store it in place of what was there.

    Args:
        connection: the caller's.
        encoder: of the expert.
        expert: its name.
        side: of X.
        X: unit vectors, float64, shape (n, dimensions).
        size: rows of the samples whose discrepancy gives the threshold.
    """
    with translated():
        known = rows_of(
            connection,
            "select gamma from pgembed.expert_domain where encoder = %s and side = %s limit 1",
            (encoder, side),
        )
        gamma = known[0][0] if known else median_gamma(X)
        reduced = reduce(X, gamma=gamma)
        quantile = same_domain_quantile(X, gamma=gamma, size=size)
        connection.execute(
            "insert into pgembed.expert_domain"
            " (encoder, expert, side, z, beta, gamma, n, centroid, mmd_q95) select %s, %s, %s,"
            " array(select pgembed.as_vector(z.point::real[]) from unnest(%s::text[])"
            " with ordinality as z (point, n) order by z.n), %s, %s, %s,"
            " pgembed.as_vector(%s::real[]), %s",
            (
                encoder,
                expert,
                side,
                [_array(point) for point in reduced.points],
                reduced.beta.tolist(),
                gamma,
                reduced.n,
                _array(unit(X.mean(axis=0))),
                quantile,
            ),
        )


def described(
    connection: Connection, encoder: str, side: Side
) -> tuple[list[Domain], tuple[str, ...]]:
    """Domains of the active experts of an encoder, and the experts that have none.

    What was described before an expert was replaced does not count.
    """
    with translated():
        rows = rows_of(
            connection,
            "select e.name, e.state, d.beta, d.gamma, d.n, d.mmd_q95,"
            " pgembed.vector_bytes(d.centroid),"
            " array(select pgembed.vector_bytes(z.point) from unnest(d.z) with ordinality"
            " as z (point, n) order by z.n)"
            " from pgembed.expert as e left join pgembed.expert_domain as d"
            " on d.encoder = e.encoder and d.expert = e.name and d.side = %s"
            " and d.described_at >= e.created_at"
            " where e.encoder = %s and e.kind <> 'base' and e.state = 'active' order by e.name",
            (side, encoder),
            binary=True,
        )
    found = [
        Domain(
            name,
            state,
            ReducedSet(np.asarray([vector_of(z) for z in points]), np.asarray(beta), gamma, n),
            vector_of(centroid),
            quantile,
        )
        for name, state, beta, gamma, n, quantile, centroid, points in rows
        if beta is not None
    ]
    return found, tuple(row[0] for row in rows if row[2] is None)


def _array(vector: Points) -> str:
    return "{" + ",".join(map(repr, vector.tolist())) + "}"


def vector_of(data: bytes) -> Points:
    """A vector from what ``pgembed.vector_bytes`` gives, float64."""
    return np.asarray(Vector.from_binary(data).to_numpy(), dtype=np.float64)

"""Search from Python: encode, route, and one SQL call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from psycopg.types.json import Jsonb

from pgembed.collections import SearchTarget, search_target
from pgembed.database import Connection, translated
from pgembed.encoders import Encoder
from pgembed.errors import InputError
from pgembed.model import Hit, Mode, Route, Vector
from pgembed.registry import open_registered
from pgembed.routing import current_router

LARGEST_K = 2_147_483_647
"""What a PostgreSQL integer holds."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the database finds the rows of one search."""

    plan: str
    """``exact`` or ``hnsw``."""
    estimated: int
    """Matching chunks by the planner's estimate."""
    counted: int | None
    """Matching chunks counted, at most one more than the threshold; None where not needed."""
    threshold: int
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A search with what led to its hits."""

    hits: list[Hit]
    route: Route
    plan: Plan


def search(
    connection: Connection,
    collection: str,
    query: str | Vector,
    *,
    k: int = 10,
    filter: Mapping[str, Any] | None = None,
    mode: Mode = "soft",
    hybrid: bool = False,
    encoder: Encoder | None = None,
) -> list[Hit]:
    """The k source rows that answer a query best, of those that match the filter.

    Exactly min(k, matching and visible rows) hits come back, whatever the filter.

    Args:
        connection: the caller's; ``pgembed.connect`` opens one that is fit for searching.
        collection: its name.
        query: text, or a vector of the encoder's dimensions that is searched with as it is.
        k: hits wanted, 0 or more.
        filter: conditions on the source table's columns, for example
            ``{"year": {"gte": 2020}, "topic": ["a", "b"]}``.
        mode: ``soft`` mixes experts, ``hard`` takes the best one, ``base`` none; or an expert.
        hybrid: also rank by the words of the query, which must be text then.
        encoder: the collection's own, when it is open already.

    Raises:
        NotFoundError: no such collection or expert.
        FilterError: the filter names an unknown column or operator, or a value of a wrong type.
        InputError: the query or k cannot be used.
    """
    target = search_target(connection, collection)
    vector, _ = _query_vector(connection, target, query, mode, encoder)
    return _hits(connection, target, query, vector, k, filter, hybrid)


def explain(
    connection: Connection,
    collection: str,
    query: str | Vector,
    *,
    k: int = 10,
    filter: Mapping[str, Any] | None = None,
    mode: Mode = "soft",
    hybrid: bool = False,
    encoder: Encoder | None = None,
) -> Explanation:
    """Search, and say which experts answered and how the rows were found.

    Arguments and errors are those of :func:`search`.
    """
    target = search_target(connection, collection)
    vector, route = _query_vector(connection, target, query, mode, encoder)
    hits = _hits(connection, target, query, vector, k, filter, hybrid)
    with translated():
        row = connection.execute(
            "select plan, estimated, counted, threshold, why"
            " from pgembed.plan_search(%s, %s::int, %s::jsonb)",
            (collection, k, _filter(filter)),
        ).fetchone()
    assert row is not None
    return Explanation(hits, route, Plan(*row))


def _query_vector(
    connection: Connection,
    target: SearchTarget,
    query: str | Vector,
    mode: Mode,
    encoder: Encoder | None,
) -> tuple[Vector, Route]:
    if not isinstance(query, str):
        return _checked(query), Route("vector", {}, {}, "the vector was given")
    model = encoder or open_registered(connection, target.collection.encoder, target.fingerprint)
    z = model.encode_query([query])[0]
    router = current_router(connection, target.collection.encoder, target.routing_version)
    return router.query_vector(z, mode)


def _checked(vector: Vector) -> Vector:
    """A given vector as float32; the database checks its dimensions."""
    array = np.asarray(vector, dtype=np.float32)
    if array.ndim != 1:
        raise InputError(f"a query vector has one axis, not shape {array.shape}")
    if not np.isfinite(array).all():
        raise InputError("the query vector holds NaN or an infinite number")
    return array


def _hits(
    connection: Connection,
    target: SearchTarget,
    query: str | Vector,
    vector: Vector,
    k: int,
    conditions: Mapping[str, Any] | None,
    hybrid: bool,
) -> list[Hit]:
    if not 0 <= k <= LARGEST_K:
        raise InputError(f"k is {k}; it is the number of rows to return, 0 or more")
    with translated():
        rows = connection.execute(
            "select key, rank, score, chunk_no, content, dense_score, lexical_score"
            " from pgembed.search(%s, pgembed.as_vector(%b::real[]), %s, %s::jsonb, %s, %s)",
            (
                target.collection.name,
                vector.tolist(),
                k,
                _filter(conditions),
                hybrid,
                query if isinstance(query, str) else None,
            ),
        ).fetchall()
    return [Hit(*row) for row in rows]


def _filter(conditions: Mapping[str, Any] | None) -> Jsonb | None:
    return None if conditions is None else Jsonb(dict(conditions))

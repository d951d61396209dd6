"""Search from Python: encode, route, and one SQL call."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from operator import index
from typing import Any
from uuid import UUID

import numpy as np

from pgembed.collections import SearchTarget, search_target
from pgembed.database import Connection, rows_of, translated
from pgembed.encoders import Encoder
from pgembed.errors import FilterError, InputError
from pgembed.linear_expert import unit
from pgembed.model import Hit, Mode, Route, Vector
from pgembed.registry import matching_encoder
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
    k, conditions = _limit(k), _filter(filter)
    target = search_target(connection, collection)
    vector, _ = _query_vector(connection, target, query, mode, encoder)
    return _hits(connection, target, query, vector, k, conditions, hybrid)


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
    k, conditions = _limit(k), _filter(filter)
    target = search_target(connection, collection)
    vector, route = _query_vector(connection, target, query, mode, encoder)
    hits = _hits(connection, target, query, vector, k, conditions, hybrid)
    with translated():
        (row,) = rows_of(
            connection,
            "select plan, estimated, counted, threshold, why"
            " from pgembed.plan_search(%s, %s::int, %s::jsonb)",
            (collection, k, conditions),
        )
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
    name = target.collection.encoder
    model = matching_encoder(connection, name, target.fingerprint, encoder)
    z = model.encode_query([query])[0]
    router = current_router(connection, name, target.routing_version)
    return router.query_vector(z, mode)


def _checked(vector: Vector) -> Vector:
    """A given vector at unit length, which halfvec can hold; the database checks its dimensions."""
    try:
        array = np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"a query is text or a vector of numbers: {error}") from error
    if array.ndim != 1 or not array.size:
        raise InputError(f"a query vector has one axis, not shape {array.shape}")
    if not np.isfinite(array).all():
        raise InputError("the query vector holds NaN or an infinite number")
    return unit(array.astype(np.float64)).astype(np.float32)


def _limit(k: int) -> int:
    """The number of hits as an int, which numpy's and others' integers become."""
    try:
        limit = index(k)
    except TypeError:
        limit = -1
    if not 0 <= limit <= LARGEST_K:
        raise InputError(f"k is {k!r}; it is the number of rows to return, 0 or more")
    return limit


def _hits(
    connection: Connection,
    target: SearchTarget,
    query: str | Vector,
    vector: Vector,
    k: int,
    conditions: str | None,
    hybrid: bool,
) -> list[Hit]:
    with translated():
        rows = rows_of(
            connection,
            "select key, rank, score, chunk_no, content, dense_score, lexical_score"
            " from pgembed.search(%s, pgembed.as_vector(%b::real[]), %s::int, %s::jsonb, %s, %s)"
            " order by rank",
            (
                target.collection.name,
                vector.tolist(),
                k,
                conditions,
                hybrid,
                query if isinstance(query, str) else None,
            ),
        )
    return [Hit(*row) for row in rows]


def _filter(conditions: Mapping[str, Any] | None) -> str | None:
    """A filter as json, which the database compiles and checks."""
    if conditions is None:
        return None
    if not isinstance(conditions, Mapping):
        raise FilterError(
            f"a filter is a mapping of columns, not {conditions!r:.100}",
            hint='For example {"year": {"gte": 2020}, "topic": ["a", "b"]}.',
        )
    try:
        text = json.dumps(dict(conditions), default=_plain, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise FilterError(f"the filter cannot be written as json: {error}") from error
    return text


def _plain(value: object) -> object:
    """What json lacks, as the text that PostgreSQL reads."""
    if isinstance(value, date | time | Decimal | UUID):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r:.100} is no value of json")

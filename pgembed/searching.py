"""Search from Python: encode, route, and one SQL call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from operator import index
from typing import Any, TypedDict, Unpack
from uuid import UUID

import numpy as np
from psycopg import sql

from pgembed.collections import SearchTarget, search_target
from pgembed.database import Connection, rows_of, translated
from pgembed.encoders import Encoder
from pgembed.encoders.bank import States
from pgembed.errors import FilterError, InputError
from pgembed.linear_expert import unit
from pgembed.model import Hit, Mode, Route, Vector
from pgembed.registry import matching_encoder
from pgembed.routing import current_router

LARGEST_K = 2_147_483_647
"""What a PostgreSQL integer holds."""


class SearchOptions(TypedDict, total=False):
    """What :func:`search` and :func:`explain` take besides collection and query."""

    k: int
    """Hits wanted, 0 or more; 10 unless given."""
    filter: Mapping[str, Any] | None
    """Conditions on the source's columns: ``{"year": {"gte": 2020}, "topic": ["a", "b"]}``."""
    mode: Mode
    """``soft`` mixes experts, ``hard`` takes the best one, ``base`` none; or an expert."""
    hybrid: bool
    """Also rank by the words of the query, which must be text then."""
    lexical_weight: float | None
    """Weight of the words from 0 to 1; None takes what was fitted for the collection, else 0.3."""
    fusion: str | None
    """``zscore``, ``minmax`` or ``rrf``; None takes what was fitted, else ``zscore``."""
    exclude: str | Vector | Sequence[str | Vector] | None
    """Texts or vectors that hits should not be about: turned away from, and penalised."""
    min_score: float | None
    """Hits of a lower score are left out."""
    offset: int
    """Hits to skip."""
    after: Sequence[Any] | None
    """Cursor of the last hit of the page before."""
    columns: Sequence[str] | None
    """Columns of the source that come back in ``Hit.fields``."""
    group_by: str | None
    """A column of the source, of whose every value at most ``per_group`` hits come back."""
    per_group: int
    """1 unless given."""
    encoder: Encoder | None
    """The collection's own, when it is open already."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the database finds the rows of one search."""

    plan: str | None
    """``exact`` or ``hnsw``; None where nothing was asked for (k = 0)."""
    estimated: int
    """Matching chunks by the planner's estimate."""
    threshold: int
    """Up to how many matching chunks exact search is cheaper."""
    why: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a search, as text and as data."""

    name: str
    """``route``, ``filter``, ``plan``, ``dense arm``, ``lexical arm``, ``fusion``, ..."""
    detail: str
    data: Any


@dataclass(frozen=True, slots=True)
class Explanation:
    """A search with what led to its hits."""

    hits: list[Hit]
    route: Route
    plan: Plan
    steps: list[Step]


@dataclass(frozen=True, slots=True)
class _Request:
    """The arguments of ``pgembed.search`` in SQL, checked as far as Python has to."""

    route: Route
    base: Vector | None
    arguments: Mapping[str, Any]


def search(
    connection: Connection,
    collection: str,
    query: str | Vector,
    **options: Unpack[SearchOptions],
) -> list[Hit]:
    """The k source rows that answer a query best, of those that match the filter.

    Exactly min(k, matching and visible rows) hits come back, whatever the filter.

    Args:
        connection: the caller's; ``pgembed.connect`` opens one that is fit for searching.
        collection: its name.
        query: text, or a vector of the encoder's dimensions that is searched with as it is.
        **options: ``k``, ``filter``, ``mode``, ``hybrid`` and more: see :class:`SearchOptions`.

    Raises:
        NotFoundError: no such collection or expert.
        FilterError: the filter names an unknown column or operator, or a value of a wrong type.
        InputError: the query, or another argument, cannot be used.
    """
    return _hits(connection, _request(connection, collection, query, options))


def explain(
    connection: Connection,
    collection: str,
    query: str | Vector,
    *,
    buffers: bool = False,
    **options: Unpack[SearchOptions],
) -> Explanation:
    """Search, and say which experts answered and how the rows were found.

    Args:
        connection: the caller's.
        collection: its name.
        query: text or a vector.
        buffers: count the pages that the search touches, too; it runs once more for that.
        **options: those of :func:`search`, which also names the errors.
    """
    request = _request(connection, collection, query, options)
    base = None if request.base is None else request.base.tolist()
    hits = _hits(connection, request)
    with translated():
        rows = rows_of(
            connection,
            EXPLAIN,
            {**request.arguments, "base": base, "mode": request.route.mode, "buffers": buffers},
        )
    steps = [Step(*row) for row in rows]
    (plan,) = [step.data for step in steps if step.name == "plan"]
    return Explanation(hits, request.route, Plan(**plan), steps)


ARGUMENTS = sql.SQL(
    "%(collection)s, pgembed.as_vector(%(vector)b::real[]), %(k)s::int, %(filter)s::jsonb,"
    " %(hybrid)s, %(query_text)s, %(lexical_weight)s::float8, %(fusion)s, %(exclude)s,"
    " %(min_score)s::float8, %(offset)s::int, %(after)s::jsonb, %(columns)s::text[],"
    " %(group_by)s, %(per_group)s::int"
)
"""Arguments of ``pgembed.search`` in SQL, in their order."""

SEARCH = sql.SQL(
    "select key, rank, score, chunk_no, content, dense_score, lexical_score, fields, cursor"
    " from pgembed.search({}) order by rank"
).format(ARGUMENTS)

EXPLAIN = sql.SQL(
    "select name, detail, data from pgembed.explain_search({},"
    " pgembed.as_vector(%(base)b::real[]), %(mode)s, %(buffers)s) order by step"
).format(ARGUMENTS)

DEFAULTS: SearchOptions = {
    "k": 10,
    "filter": None,
    "mode": "soft",
    "hybrid": False,
    "lexical_weight": None,
    "fusion": None,
    "exclude": None,
    "min_score": None,
    "offset": 0,
    "after": None,
    "columns": None,
    "group_by": None,
    "per_group": 1,
    "encoder": None,
}


def _hits(connection: Connection, request: _Request) -> list[Hit]:
    with translated():
        return [Hit(*row) for row in rows_of(connection, SEARCH, request.arguments)]


def _request(
    connection: Connection, collection: str, query: str | Vector, options: SearchOptions
) -> _Request:
    if unknown := sorted(set(options) - set(DEFAULTS)):
        raise TypeError(f"search has no option {unknown[0]!r}; options are {', '.join(DEFAULTS)}")
    chosen: SearchOptions = {**DEFAULTS, **options}
    counts = {name: _count(name, chosen[name]) for name in ("k", "offset", "per_group")}
    conditions, columns, after = filter_json(chosen["filter"]), chosen["columns"], chosen["after"]
    target = search_target(connection, collection)
    vector, route, base = routed_vector(
        connection, target, query, chosen["mode"], chosen["encoder"]
    )
    arguments = {
        **chosen,
        **counts,
        "collection": target.collection.name,
        "vector": vector.tolist(),
        "filter": conditions,
        "query_text": query if isinstance(query, str) else None,
        "exclude": _excluded(connection, target, chosen["exclude"], chosen["encoder"]),
        "after": None if after is None else json.dumps(list(after)),
        "columns": None if columns is None else list(columns),
    }
    del arguments["encoder"]
    return _Request(route, base, arguments)


def _excluded(
    connection: Connection,
    target: SearchTarget,
    exclude: str | Vector | Sequence[str | Vector] | None,
    encoder: Encoder | None,
) -> str | None:
    """What is not wanted, texts by their base embeddings, as an array that PostgreSQL reads."""
    if exclude is None:
        return None
    single = isinstance(exclude, str) or (isinstance(exclude, np.ndarray) and exclude.ndim == 1)
    each = [exclude] if single else list(exclude)
    vectors = [
        routed_vector(connection, target, one, "base", encoder)[0]  # type: ignore[arg-type]
        for one in each
    ]
    return "{" + ",".join(f'"{json.dumps(vector.tolist())}"' for vector in vectors) + "}"


def routed_vector(
    connection: Connection,
    target: SearchTarget,
    query: str | Vector,
    mode: Mode,
    encoder: Encoder | None,
) -> tuple[Vector, Route, Vector | None]:
    """The vector to search with, the route that led to it, and the base embedding of a text."""
    if not isinstance(query, str):
        return _checked(query), Route("vector", {}, {}, "the vector was given"), None
    name = target.collection.encoder
    model = matching_encoder(connection, name, target.fingerprint, encoder)
    router = current_router(connection, name, target.routing_version)
    encoded = router.encode([query], model, [mode])
    if isinstance(encoded, States):
        return (*router.query_vector(encoded, mode), encoded.base[0])
    return (*router.query_vector(encoded[0], mode), encoded[0])


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


def _count(name: str, value: int) -> int:
    """A number of rows as an int, which numpy's and others' integers become."""
    try:
        count = index(value)
    except TypeError:
        count = -1
    if not 0 <= count <= LARGEST_K:
        raise InputError(f"{name} is {value!r}; it is a number of rows, 0 or more")
    return count


def filter_json(conditions: Mapping[str, Any] | None) -> str | None:
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

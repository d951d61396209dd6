"""Search as a SQLAlchemy expression: a table that joins to your own models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from pgvector.sqlalchemy import HALFVEC
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, array
from sqlalchemy.sql.selectable import TableValuedAlias

from pgembed.model import Mode, Vector

OPTIONS: Mapping[str, tuple[Any, Any]] = {
    "lexical_weight": (sa.Float, None),
    "fusion": (sa.Text, None),
    "exclude": (None, None),
    "min_score": (sa.Float, None),
    "offset": (sa.Integer, 0),
    "after": (JSONB(none_as_null=True), None),
    "columns": (ARRAY(sa.Text), None),
    "group_by": (sa.Text, None),
    "per_group": (sa.Integer, 1),
}
"""Type and default of the arguments of ``pgembed.search`` in SQL from the seventh on."""

OF_TEXT: Mapping[str, tuple[Any, Any]] = {
    "mode": (sa.Text, "soft"),
    "hybrid": (sa.Boolean, False),
    **OPTIONS,
    "exclude": (ARRAY(sa.Text), None),
    "fresh": (sa.Boolean, False),
}
"""The same of its overload for a text, from the fifth on."""


def search(
    collection: str,
    query: str | Vector | Sequence[float],
    *,
    k: int = 10,
    filter: Mapping[str, Any] | None = None,
    words: str | None = None,
    name: str = "hit",
    **options: Any,
) -> TableValuedAlias:
    """The rows of ``pgembed.search`` as something to select from and to join.

    It works in sync and async sessions alike, because it is an expression only::

        hit = pgembed.sqlalchemy.search("papers", "red apples", k=5, filter={"year": {"gte": 2020}})
        select(Paper, hit.c.score).join(hit, hit.c.key == cast(Paper.id, Text)).order_by(hit.c.rank)

    Args:
        collection: its name.
        query: a text, which a worker encodes and routes; or a vector of shape (dimensions,), such
            as one of ``Router.query_vector``.
        k: rows wanted.
        filter: conditions on the source table's columns.
        words: beside a vector, the query's text for a hybrid search; None searches by vector
            alone. A text has its own: ``hybrid=True``.
        name: alias of the result in the statement.
        **options: further arguments of ``pgembed.search`` in SQL: ``lexical_weight``, ``fusion``,
            ``exclude`` (vectors beside a vector, texts beside a text), ``min_score``, ``offset``,
            ``after``, ``columns``, ``group_by``, ``per_group``; with a text also ``mode``,
            ``hybrid`` and ``fresh``.

    Raises:
        TypeError: there is no such option.
    """
    known = OF_TEXT if isinstance(query, str) else OPTIONS
    if unknown := sorted(set(options) - set(known)):
        raise TypeError(f"search has no option {unknown[0]!r}; options are {', '.join(known)}")
    if isinstance(query, str):
        if words is not None:
            raise TypeError("words go with a vector; a text is searched by its own: hybrid=True")
        asked: tuple[Any, ...] = ()
        target: sa.ColumnElement[Any] = sa.cast(query, sa.Text)
    else:
        asked = (words is not None, sa.cast(words, sa.Text))
        target = _as_vector(query)
    function = sa.func.pgembed.search(
        sa.cast(collection, sa.Text),
        target,
        sa.cast(k, sa.Integer),
        sa.cast(None if filter is None else dict(filter), JSONB(none_as_null=True)),
        *asked,
        *(_argument(*known[name], options.get(name)) for name in known),
    )
    return function.table_valued(
        sa.column("key", sa.Text),
        sa.column("rank", sa.Integer),
        sa.column("score", sa.Float),
        sa.column("chunk_no", sa.Integer),
        sa.column("content", sa.Text),
        sa.column("dense_score", sa.Float),
        sa.column("lexical_score", sa.Float),
        sa.column("fields", JSONB),
        sa.column("cursor", JSONB),
        name=name,
    )


def encode(collection: str, query: str, *, mode: Mode = "soft") -> sa.ColumnElement[Any]:
    """The vector of a query text, which a worker encodes and routes, as a part of a statement.

    Encoded once a statement, whatever the number of rows that are compared with it::

        apples = pgembed.sqlalchemy.encode("papers", "red apples")
        select(Chunk.content).order_by(Chunk.embedding.cosine_distance(apples)).limit(10)

    Args:
        collection: its name.
        query: the text.
        mode: ``soft``, ``hard``, ``base``, or an expert's name.
    """
    # As a subquery, which PostgreSQL runs once; of the type of the stored vectors, for their index.
    vector = sa.func.pgembed.encode(
        sa.cast(collection, sa.Text), sa.cast(query, sa.Text), sa.cast(mode, sa.Text)
    )
    return sa.select(sa.cast(vector, HALFVEC)).scalar_subquery()


def _argument(kind: Any, default: Any, value: Any) -> sa.ColumnElement[Any]:
    value = default if value is None else value
    if value is None:
        return sa.null()
    if kind is None:
        return array([_as_vector(vector) for vector in value]) if len(value) else sa.null()
    return sa.cast(value, kind)


def _as_vector(vector: Vector | Sequence[float]) -> sa.ColumnElement[Any]:
    numbers = [float(number) for number in vector]
    return sa.func.pgembed.as_vector(sa.cast(numbers, ARRAY(sa.REAL)))

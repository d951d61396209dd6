"""Search as a SQLAlchemy expression: a table that joins to your own models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, array
from sqlalchemy.sql.selectable import TableValuedAlias

from pgembed.model import Vector

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


def search(
    collection: str,
    vector: Vector | Sequence[float],
    *,
    k: int = 10,
    filter: Mapping[str, Any] | None = None,
    words: str | None = None,
    name: str = "hit",
    **options: Any,
) -> TableValuedAlias:
    """The rows of ``pgembed.search`` as something to select from and to join.

    It works in sync and async sessions alike, because it is an expression only::

        hit = pgembed.sqlalchemy.search("papers", vector, k=5, filter={"year": {"gte": 2020}})
        select(Paper, hit.c.score).join(hit, hit.c.key == cast(Paper.id, Text)).order_by(hit.c.rank)

    Args:
        collection: its name.
        vector: what to search with, shape (dimensions,): ``Router.query_vector`` gives a routed
            one.
        k: rows wanted.
        filter: conditions on the source table's columns.
        words: the query's text, for a hybrid search; None searches by vector alone.
        name: alias of the result in the statement.
        **options: further arguments of ``pgembed.search`` in SQL: ``lexical_weight``, ``fusion``,
            ``exclude`` (vectors), ``min_score``, ``offset``, ``after``, ``columns``, ``group_by``,
            ``per_group``.

    Raises:
        TypeError: there is no such option.
    """
    if unknown := sorted(set(options) - set(OPTIONS)):
        raise TypeError(f"search has no option {unknown[0]!r}; options are {', '.join(OPTIONS)}")
    conditions = None if filter is None else dict(filter)
    function = sa.func.pgembed.search(
        sa.cast(collection, sa.Text),
        _as_vector(vector),
        sa.cast(k, sa.Integer),
        sa.cast(conditions, JSONB(none_as_null=True)),
        words is not None,
        sa.cast(words, sa.Text),
        *(_argument(name, options.get(name)) for name in OPTIONS),
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


def _argument(name: str, value: Any) -> sa.ColumnElement[Any]:
    kind, default = OPTIONS[name]
    value = default if value is None else value
    if value is None or (name == "exclude" and not len(value)):
        return sa.null()
    if name == "exclude":
        return array([_as_vector(vector) for vector in value])
    return sa.cast(value, kind)


def _as_vector(vector: Vector | Sequence[float]) -> sa.ColumnElement[Any]:
    numbers = [float(number) for number in vector]
    return sa.func.pgembed.as_vector(sa.cast(numbers, ARRAY(sa.REAL)))

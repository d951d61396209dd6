"""Search as a SQLAlchemy expression: a table that joins to your own models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.sql.selectable import TableValuedAlias

from pgembed.model import Vector


def search(
    collection: str,
    vector: Vector | Sequence[float],
    *,
    k: int = 10,
    filter: Mapping[str, Any] | None = None,
    words: str | None = None,
    name: str = "hit",
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
    """
    numbers = [float(number) for number in vector]
    conditions = None if filter is None else dict(filter)
    function = sa.func.pgembed.search(
        sa.cast(collection, sa.Text),
        sa.func.pgembed.as_vector(sa.cast(numbers, ARRAY(sa.REAL))),
        sa.cast(k, sa.Integer),
        sa.cast(conditions, JSONB(none_as_null=True)),
        words is not None,
        sa.cast(words, sa.Text),
    )
    return function.table_valued(
        sa.column("key", sa.Text),
        sa.column("rank", sa.Integer),
        sa.column("score", sa.Float),
        sa.column("chunk_no", sa.Integer),
        sa.column("content", sa.Text),
        sa.column("dense_score", sa.Float),
        sa.column("lexical_score", sa.Float),
        name=name,
    )

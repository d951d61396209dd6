"""All judgments of a collection: load many, count them, give them back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pgembed.database import Connection, rows_of, translated
from pgembed.judgments import add_judgments
from pgembed.model import Judgment

BLOCK = 5000
"""Judgments that are inserted at once."""

SHOWN = 10
"""Unknown keys that are named."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class LoadedJudgments:
    """What became of judgments that were loaded."""

    collection: str
    read: int
    judgments: int
    """Those of different queries and keys; of several for one query and key the last counts."""
    queries: int
    unknown: int
    """Keys that no embedded row of the collection has: their judgments are kept, and count
    as soon as such a row is embedded."""
    unknown_keys: Sequence[str]
    """Up to ten of them."""


@dataclass(frozen=True, slots=True)
class JudgmentCount:
    """How many judgments there are of one domain and split."""

    domain: str
    split: str
    queries: int
    judgments: int
    relevant: int
    """Those of a grade above 0."""


def load_judgments(
    connection: Connection,
    collection: str,
    judgments: Sequence[Judgment],
    *,
    on_progress: Progress | None = None,
) -> LoadedJudgments:
    """Insert judgments block by block, replacing those of the same query and key.

    In autocommit mode each block is committed by itself; after an interruption the same call
    completes the work.

    Args:
        connection: the caller's.
        collection: its name.
        judgments: in any order.
        on_progress: called with how many are inserted, and how many there are.

    Raises:
        NotFoundError: no such collection.
        InputError: a query is blank, or a split is none of train, dev and test.
    """
    last = list({(each.query, each.key): each for each in judgments}.values())
    unknown = unknown_keys(connection, collection, [each.key for each in last])
    for start in range(0, len(last), BLOCK):
        block = last[start : start + BLOCK]
        add_judgments(connection, collection, block)
        if on_progress:
            on_progress(start + len(block), len(last))
    return LoadedJudgments(
        collection,
        read=len(judgments),
        judgments=len(last),
        queries=len({each.query for each in last}),
        unknown=len(unknown),
        unknown_keys=tuple(unknown[:SHOWN]),
    )


def unknown_keys(connection: Connection, collection: str, keys: Sequence[str]) -> list[str]:
    """Those of the keys, each once and sorted, that no embedded row of the collection has."""
    with translated():
        rows = rows_of(
            connection,
            "select distinct asked.key from unnest(%s::text[]) as asked (key)"
            " where not exists"
            " (select from pgembed.chunks(%s) as c where c.key = asked.key) order by 1",
            (list(keys), collection),
        )
    return [key for (key,) in rows]


def count_judgments(connection: Connection, collection: str) -> list[JudgmentCount]:
    """The judgments of a collection by domain and split.

    Raises:
        NotFoundError: no such collection.
    """
    with translated():
        connection.execute("select pgembed.collection_named(%s)", (collection,))
        rows = rows_of(
            connection,
            "select domain, split, count(distinct query_hash), count(*),"
            " count(*) filter (where grade > 0) from pgembed.judgment where collection = %s"
            " group by domain, split"
            " order by domain, array_position(array['train', 'dev', 'test'], split)",
            (collection,),
        )
    return [JudgmentCount(*row) for row in rows]


def stored_judgments(connection: Connection, collection: str) -> list[Judgment]:
    """Every judgment of a collection, sorted by domain, split, query and key.

    Raises:
        NotFoundError: no such collection.
    """
    with translated():
        connection.execute("select pgembed.collection_named(%s)", (collection,))
        rows = rows_of(
            connection,
            "select query, key, grade, split, domain from pgembed.judgment where collection = %s"
            ' order by domain, split, query collate "C", key collate "C"',
            (collection,),
        )
    return [Judgment(*row) for row in rows]

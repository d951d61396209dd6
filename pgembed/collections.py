"""Collections from Python: create, list, describe and drop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg

from pgembed.database import Connection, rows_of, translated
from pgembed.errors import SourceError
from pgembed.model import Collection


@dataclass(frozen=True, slots=True)
class CollectionStatus:
    """How far a collection is in step with its source."""

    name: str
    source: str
    encoder: str
    chunks: int
    stale: int
    """Source rows that wait; one that changed several times counts so often until it is claimed."""
    failed: int
    indexed: bool
    oldest: datetime | None
    """Since when the oldest of them waits."""
    paused_at: datetime | None


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What :func:`refresh` counted."""

    documents: int
    """Chunks."""
    lexemes: int
    """Different words, stop words excepted."""
    average_length: float
    """Words of an average chunk, as the BM25 weights have it."""
    rewritten: int
    """Chunks whose weights were missing, or out of date by more than 10 %."""


@dataclass(frozen=True, slots=True)
class SearchTarget:
    """A collection with the encoder and routing version that its queries need."""

    collection: Collection
    fingerprint: str
    dimensions: int
    routing_version: str


def create_collection(  # noqa: PLR0913 - one argument a property of the collection
    connection: Connection,
    name: str,
    *,
    source: str,
    content: Sequence[str],
    encoder: str,
    key: Sequence[str] | None = None,
    max_tokens: int | None = None,
    overlap: int | None = None,
    language: str = "english",
    expires: str | None = None,
    capture: str = "origin",
) -> None:
    """Make the rows of a table searchable; see ``pgembed.create_collection`` in SQL.

    Args:
        connection: the caller's; nothing is committed here.
        name: 1 to 56 bytes of any characters.
        source: the table, qualified and quoted as in SQL.
        content: columns whose text is embedded, a line each.
        encoder: a registered encoder.
        key: its key columns; None takes the primary key.
        max_tokens: longest chunk; None takes what the encoder takes.
        overlap: tokens that neighbouring chunks share; None takes an eighth of ``max_tokens``.
        language: text search configuration of the words.
        expires: a column, timestamp with time zone, that says when a row leaves search.
        capture: ``always`` where rows arrive by logical replication, else ``origin``.

    Raises:
        InputError, NotFoundError, SourceError: the argument at fault is named.
    """
    arguments = {
        "name": name,
        "content": list(content),
        "encoder": encoder,
        "source": source,
        "key": None if key is None else list(key),
        "max_tokens": max_tokens,
        "overlap": overlap,
        "language": language,
        "expires": expires,
        "capture": capture,
    }
    _check_table(connection, source)
    with translated():
        connection.execute(
            "select pgembed.create_collection(%(name)s, %(source)s::text::regclass,"
            " %(content)s::text[], %(encoder)s, %(key)s::text[], %(max_tokens)s::int,"
            " %(overlap)s::int, %(language)s, %(expires)s, %(capture)s)",
            arguments,
        )


def _check_table(connection: Connection, source: str) -> None:
    try:
        with translated():
            ((found,),) = rows_of(connection, "select to_regclass(%s) is not null", (source,))
    except psycopg.errors.InvalidName:
        found = False
    if not found:
        raise SourceError(
            f"there is no table {source!r}", hint="Name it as in SQL, for instance public.papers."
        )


def drop_collection(connection: Connection, name: str) -> None:
    """Remove a collection with its vectors, queue and judgments; the source table stays."""
    with translated():
        connection.execute("select pgembed.drop_collection(%s)", (name,))


def refresh(connection: Connection, name: str) -> Refreshed:
    """Count the words of a collection anew, for BM25; see ``pgembed.refresh`` in SQL.

    Raises:
        NotFoundError: there is no such collection.
    """
    with translated():
        (row,) = rows_of(connection, "select * from pgembed.refresh(%s)", (name,))
    return Refreshed(*row)


def search_target(connection: Connection, name: str) -> SearchTarget:
    """What a client needs to search a collection.

    Raises:
        NotFoundError: there is no such collection; the hint lists those that exist.
    """
    with translated():
        (row,) = rows_of(connection, "select * from pgembed.describe_collection(%s)", (name,))
    collection = Collection(
        name=row[0],
        source=row[1],
        key_columns=tuple(row[2]),
        content_columns=tuple(row[3]),
        max_tokens=row[4],
        overlap=row[5],
        language=row[6],
        encoder=row[7],
    )
    return SearchTarget(collection, row[8], row[9], row[10])


def list_collections(connection: Connection) -> list[CollectionStatus]:
    """Every collection, by name, with its counts."""
    with translated():
        rows = rows_of(connection, "select * from pgembed.collection_status()", binary=True)
    return [CollectionStatus(*row) for row in rows]

"""Check that a collection holds what its source says: nothing lost, old, or left over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pgembed.batches import chunk_text, content_hash
from pgembed.collections import SearchTarget, search_target
from pgembed.database import Connection, translated
from pgembed.encoders import Encoder
from pgembed.errors import InputError
from pgembed.registry import matching_encoder

SHOWN = 20
"""Keys that are named of each kind."""

FETCHED = 500
"""Rows that are fetched at once."""


@dataclass(frozen=True, slots=True)
class SyncAudit:
    """What the check of a collection found among the rows that are said to be in step."""

    collection: str
    rows: int
    """Source rows that were compared, chunk by chunk."""
    lost: Sequence[str]
    """Keys without some of their chunks; up to 20 are named here and below."""
    stale: Sequence[str]
    """Keys with a chunk of another text or another model."""
    left_over: Sequence[str]
    """Keys with chunks, but with no source row that has not expired; or with chunks too many."""
    lost_count: int
    stale_count: int
    left_over_count: int

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not (self.lost_count or self.stale_count or self.left_over_count)


def audit_sync(
    connection: Connection,
    collection: str,
    *,
    encoder: Encoder | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> SyncAudit:
    """Cut every source row anew, and compare with the chunks that are stored.

    Rows that wait in the queue, and rows that failed, are left out. No text is encoded. Everything
    is read in one snapshot, so it may run beside writers and workers.

    Args:
        connection: in no transaction.
        collection: its name.
        encoder: the collection's own, when it is open already.
        on_progress: called with the rows done so far.

    Raises:
        InputError: the connection is in a transaction.
        NotFoundError, SourceError, FingerprintError: as their messages say.
    """
    target = search_target(connection, collection)
    model = matching_encoder(connection, target.collection.encoder, target.fingerprint, encoder)
    found: dict[str, list[str]] = {"lost": [], "stale": [], "left_over": []}
    rows = 0
    for key, present, content, numbers, hashes in _stored(connection, collection):
        rows += present
        expected = _hashes(model, target, content or "") if present else []
        verdict = _verdict(expected, numbers, [bytes(each) for each in hashes])
        if verdict:
            found[verdict].append(key)
        if on_progress:
            on_progress(rows)
    lost, stale, left_over = found["lost"], found["stale"], found["left_over"]
    return SyncAudit(
        collection=collection,
        rows=rows,
        lost=lost[:SHOWN],
        stale=stale[:SHOWN],
        left_over=left_over[:SHOWN],
        lost_count=len(lost),
        stale_count=len(stale),
        left_over_count=len(left_over),
    )


def _stored(connection: Connection, collection: str) -> Iterator[tuple[Any, ...]]:
    """The stored rows as a stream: a large collection does not fit into memory."""
    if connection.info.transaction_status:
        raise InputError("the check reads one snapshot, and needs a connection in no transaction")
    with translated(), connection.transaction(), connection.cursor("pgembed_audit") as cursor:
        cursor.itersize = FETCHED
        yield from cursor.execute("select * from pgembed.stored_chunks(%s)", (collection,))


def _hashes(model: Encoder, target: SearchTarget, content: str) -> list[bytes]:
    chunks = chunk_text(model, target, content)
    return [content_hash(target.fingerprint, chunk.content) for chunk in chunks]


def _verdict(expected: list[bytes], numbers: list[int], hashes: list[bytes]) -> str | None:
    if len(numbers) > len(expected) or len(set(numbers)) < len(numbers):
        return "left_over"
    if len(numbers) < len(expected):
        return "lost"
    return "stale" if hashes != expected else None

"""Bring collections in step with their sources: claim, encode, write, one short batch at a time."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from pgembed.collections import SearchTarget, search_target
from pgembed.copying import ChunkRow, copy_blocks, halfvec_fields
from pgembed.database import Connection, translated
from pgembed.encoders import Encoder
from pgembed.errors import InputError, PgembedError
from pgembed.model import SyncReport, Vectors
from pgembed.registry import open_registered

BATCH_ROWS = 256
"""Source rows a batch: enough for batches of equal length, few enough to lose little on a kill."""

LEASE = "1 hour"
"""A dead session frees its claims at once by its lock; the lease is for one that hangs."""

WRITE_ATTEMPTS = 5
"""Tries of one write when a lock, a deadlock or a vanished source row stops it."""

PASSING = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.ForeignKeyViolation,
)

STAGING = """
create temporary table if not exists pgembed_staging (
  key text not null, chunk_no int not null, content text not null,
  span_start int not null, span_end int not null, content_hash bytea not null, embedding {}
) on commit delete rows
"""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A stale source row that this session is to embed."""

    key: str
    version: int
    content: str
    hashes: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Prepared:
    """The chunks of one batch, and the vectors of those that are new."""

    rows: list[ChunkRow]
    vectors: Vectors | None
    encoded: int


def sync(
    connection: Connection,
    collection: str,
    *,
    encoder: Encoder | None = None,
    batch_rows: int = BATCH_ROWS,
    on_progress: Callable[[int, int], None] | None = None,
) -> SyncReport:
    """Embed what is stale in a collection until nothing is, then build its index if it has none.

    Each batch is one short transaction and none is open while encoding. Stop it at any moment:
    what is written stays, the rest stays stale. Chunks whose text did not change keep their
    embedding.

    Args:
        connection: in autocommit mode, used by nobody else meanwhile.
        collection: its name.
        encoder: the collection's own, when it is open already.
        batch_rows: source rows a batch.
        on_progress: called with rows done and rows known so far.

    Raises:
        InputError: the connection is not in autocommit mode.
        NotFoundError, SourceError, FingerprintError: as their messages say.
    """
    if not connection.autocommit:
        raise InputError(
            "sync needs a connection in autocommit mode, because each batch is a transaction",
            hint="Open it with pgembed.connect(), or set connection.autocommit = True.",
        )
    started = time.perf_counter()
    with translated():
        target = search_target(connection, collection)
        model = encoder or open_registered(
            connection, target.collection.encoder, target.fingerprint
        )
        documents = chunks = encoded = 0
        failed: list[tuple[str, str]] = []
        waiting = _count_stale(connection, collection)
        _make_staging(connection)
        with _claimer(connection) as claimer:
            while claimed := _claim(connection, collection, claimer, batch_rows):
                prepared, bad = _prepare_or_isolate(model, target, claimed)
                for row, reason in bad:
                    _record_failure(connection, collection, claimer, row, reason)
                    failed.append((row.key, reason))
                bad_keys = {row.key for row, _ in bad}
                good = [row for row in claimed if row.key not in bad_keys]
                documents += _write(connection, collection, claimer, good, prepared)
                chunks += len(prepared.rows)
                encoded += prepared.encoded
                if on_progress:
                    done = documents + len(failed)
                    on_progress(done, max(waiting, done))
        connection.execute("select pgembed.build_index(%s)", (collection,))
    return SyncReport(
        collection, documents, chunks, encoded, tuple(failed), time.perf_counter() - started
    )


def content_hash(fingerprint: str, content: str) -> bytes:
    """What decides whether a stored embedding is still right: sha256 of model and text."""
    return hashlib.sha256(f"{fingerprint}\0{content}".encode()).digest()


@contextmanager
def _claimer(connection: Connection) -> Iterator[int]:
    """A number to claim under; whatever is unfinished at the end goes back to the queue."""
    row = connection.execute("select pgembed.register_claimer()").fetchone()
    assert row is not None
    number = int(row[0])
    try:
        yield number
    finally:
        if not connection.closed:
            connection.execute("select pgembed.release(%s)", (number,))
            connection.execute("select pg_advisory_unlock_shared(726101, %s)", (number,))


def _make_staging(connection: Connection) -> None:
    type_name = connection.execute(
        "select format('%I.halfvec', n.nspname) from pg_catalog.pg_extension as e"
        " join pg_catalog.pg_namespace as n on n.oid = e.extnamespace where e.extname = 'vector'"
    ).fetchone()
    assert type_name is not None
    statement = psycopg.sql.SQL(STAGING).format(psycopg.sql.SQL(type_name[0]))
    connection.execute(statement)


def _count_stale(connection: Connection, collection: str) -> int:
    row = connection.execute(
        "select count(*) from pgembed.stale where collection = %s", (collection,)
    ).fetchone()
    assert row is not None
    return int(row[0])


def _claim(connection: Connection, collection: str, claimer: int, batch_rows: int) -> list[Claimed]:
    rows = connection.execute(
        "select key, version, coalesce(content, ''), hashes"
        " from pgembed.claim(%s, %s, %s, %s::interval)",
        (collection, claimer, batch_rows, LEASE),
        binary=True,
    ).fetchall()
    return [
        Claimed(key, version, content, frozenset(hashes or ()))
        for key, version, content, hashes in rows
    ]


def _prepare(model: Encoder, target: SearchTarget, claimed: Sequence[Claimed]) -> Prepared:
    """Chunk the rows, and encode each text that no stored embedding serves, once."""
    collection = target.collection
    rows: list[ChunkRow] = []
    texts: dict[str, int] = {}
    for row in claimed:
        for chunk in model.chunk(
            row.content, max_tokens=collection.max_tokens, overlap=collection.overlap
        ):
            digest = content_hash(target.fingerprint, chunk.content)
            known = digest in row.hashes
            number = None if known else texts.setdefault(chunk.content, len(texts))
            rows.append(
                ChunkRow(
                    row.key, chunk.number, chunk.content, chunk.start, chunk.end, digest, number
                )
            )
    vectors = model.encode_document(list(texts)) if texts else None
    return Prepared(rows, vectors, len(texts))


def _prepare_or_isolate(
    model: Encoder, target: SearchTarget, claimed: Sequence[Claimed]
) -> tuple[Prepared, list[tuple[Claimed, str]]]:
    """Prepare a batch; when a row stops it, find that row so that its batch-mates succeed."""
    try:
        return _prepare(model, target, claimed), []
    except PgembedError:
        bad: list[tuple[Claimed, str]] = []
        for row in claimed:
            try:
                _prepare(model, target, [row])
            except PgembedError as error:
                bad.append((row, str(error)))
        names = {row.key for row, _ in bad}
        return _prepare(model, target, [row for row in claimed if row.key not in names]), bad


def _write(
    connection: Connection,
    collection: str,
    claimer: int,
    claimed: Sequence[Claimed],
    prepared: Prepared,
) -> int:
    """Write one batch in one transaction; try again when a concurrent writer was in the way."""
    embeddings = [] if prepared.vectors is None else halfvec_fields(prepared.vectors)
    for attempt in range(WRITE_ATTEMPTS):
        try:
            with connection.transaction(), connection.cursor() as cursor:
                # Shorter than deadlock_timeout: we give way before a writer is made the victim.
                cursor.execute("set local lock_timeout = '250ms'")
                with cursor.copy("copy pg_temp.pgembed_staging from stdin (format binary)") as copy:
                    copy.write(b"".join(copy_blocks(prepared.rows, embeddings)))
                cursor.execute(
                    "select pgembed.write_batch(%s, %s, %s::text[], %s::bigint[])",
                    (
                        collection,
                        claimer,
                        [row.key for row in claimed],
                        [row.version for row in claimed],
                    ),
                )
                written = cursor.fetchone()
                assert written is not None
                return int(written[0])
        except PASSING:
            if attempt == WRITE_ATTEMPTS - 1:
                raise
            time.sleep(0.1 * 2**attempt)
    raise AssertionError("unreachable")


def _record_failure(
    connection: Connection, collection: str, claimer: int, row: Claimed, reason: str
) -> None:
    connection.execute(
        "select pgembed.record_failure(%s, %s, %s, %s, %s)",
        (collection, claimer, row.key, row.version, reason),
    )

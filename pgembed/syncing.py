"""Bring collections in step with their sources: claim, encode, write, one short batch at a time."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from pgembed.collections import SearchTarget, search_target
from pgembed.copying import ChunkRow, copy_blocks, halfvec_fields
from pgembed.database import Connection, rows_of, translated
from pgembed.encoders import Encoder
from pgembed.errors import InputError, PgembedError
from pgembed.model import Chunk, SyncReport, Vectors
from pgembed.registry import matching_encoder

BATCH_ROWS = 256
"""Source rows a batch: enough for batches of equal length, few enough to lose little on a kill."""

LEASE = "1 hour"
"""A dead session frees its claims at once by its lock; the lease is for one that hangs."""

WRITE_ATTEMPTS = 2
"""Tries of a batch that a lock, a deadlock or a vanished source row stops; then of its halves."""

PASSING = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.ForeignKeyViolation,
)

Failures = list[tuple[str, str]]
"""Key and reason of each row that cannot be embedded."""

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
    embedding. Several may run at once: they share the work, and the last builds the index. A row
    that another transaction keeps locked stays stale, for the next sync.

    Args:
        connection: in autocommit mode, used by nobody else meanwhile.
        collection: its name.
        encoder: the collection's own, when it is open already.
        batch_rows: source rows a batch.
        on_progress: called with rows done and rows known so far.

    Raises:
        InputError: the connection is not in autocommit mode or in a transaction, or the encoder
            cannot cut the collection's chunks.
        NotFoundError, SourceError, FingerprintError: as their messages say.
    """
    _check_connection(connection)
    started = time.perf_counter()
    with translated():
        target = search_target(connection, collection)
        model = matching_encoder(connection, target.collection.encoder, target.fingerprint, encoder)
        _chunk(model, target, "")  # refuses bounds that no row could be cut with
        documents = chunks = encoded = 0
        failed: Failures = []
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
                written, refused = _write(connection, collection, claimer, good, prepared)
                documents += written
                failed += refused
                chunks += len(prepared.rows)
                encoded += prepared.encoded
                if on_progress:
                    done = documents + len(failed)
                    on_progress(done, max(waiting, done))
        _build_index(connection, collection)
    return SyncReport(
        collection, documents, chunks, encoded, tuple(failed), time.perf_counter() - started
    )


def _check_connection(connection: Connection) -> None:
    idle = connection.info.transaction_status == TransactionStatus.IDLE
    if not connection.autocommit or not idle:
        raise InputError(
            "sync needs a connection in autocommit mode and in no transaction, because each batch"
            " is a transaction",
            hint="Open it with pgembed.connect(), or set connection.autocommit = True.",
        )


def content_hash(fingerprint: str, content: str) -> bytes:
    """What decides whether a stored embedding is still right: sha256 of model and text."""
    return hashlib.sha256(f"{fingerprint}\0{content}".encode()).digest()


@contextmanager
def _claimer(connection: Connection) -> Iterator[int]:
    """A number to claim under; whatever is unfinished at the end goes back to the queue."""
    ((number,),) = rows_of(connection, "select pgembed.register_claimer()")
    try:
        yield number
    finally:
        if not connection.closed:
            connection.execute("select pgembed.release(%s)", (number,))
            connection.execute("select pg_advisory_unlock_shared(726101, %s)", (number,))


def _make_staging(connection: Connection) -> None:
    ((schema,),) = rows_of(
        connection,
        "select n.nspname from pg_catalog.pg_extension as e"
        " join pg_catalog.pg_namespace as n on n.oid = e.extnamespace where e.extname = 'vector'",
    )
    connection.execute(sql.SQL(STAGING).format(sql.Identifier(schema, "halfvec")))


def _build_index(connection: Connection, collection: str) -> None:
    """Build the index after the first load.

    Not while another session is embedding, whose writes would have to wait; and not of an empty
    table, whose first load would then be the slow kind, row by row into the index.
    """
    side = sql.Identifier("pgembed_data", collection)
    if rows_of(connection, sql.SQL("select from {} limit 1").format(side)):
        connection.execute(
            "select pgembed.build_index(%(name)s) where not exists (select from pgembed.stale"
            " where collection = %(name)s and claimed_by = any (pgembed.living_claimers()))",
            {"name": collection},
        )


def _count_stale(connection: Connection, collection: str) -> int:
    statement = "select count(*) from pgembed.stale where collection = %s"
    return int(rows_of(connection, statement, (collection,))[0][0])


def _claim(connection: Connection, collection: str, claimer: int, batch_rows: int) -> list[Claimed]:
    rows = rows_of(
        connection,
        "select key, version, coalesce(content, ''), hashes"
        " from pgembed.claim(%s, %s, %s, %s::interval)",
        (collection, claimer, batch_rows, LEASE),
        binary=True,
    )
    return [
        Claimed(key, version, content, frozenset(hashes or ()))
        for key, version, content, hashes in rows
    ]


def _prepare(model: Encoder, target: SearchTarget, claimed: Sequence[Claimed]) -> Prepared:
    """Chunk the rows, and encode each text that no stored embedding serves, once."""
    rows: list[ChunkRow] = []
    texts: dict[str, int] = {}
    for row in claimed:
        for chunk in _chunk(model, target, row.content):
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


def _chunk(model: Encoder, target: SearchTarget, text: str) -> list[Chunk]:
    bounds = target.collection
    return model.chunk(text, max_tokens=bounds.max_tokens, overlap=bounds.overlap)


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
    attempts: int = WRITE_ATTEMPTS,
) -> tuple[int, Failures]:
    """Write a batch in one transaction; when some rows stop it, write the others.

    Returns:
        How many rows were brought up to date, and those that the database refuses.
    """
    reason = None
    for _ in range(attempts if claimed else 0):
        try:
            return _write_once(connection, collection, claimer, claimed, prepared), []
        except PASSING:
            continue
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            reason = str(error).strip()
            break
    if len(claimed) > 1:
        middle = len(claimed) // 2
        halves = [
            _write(connection, collection, claimer, half, _part(prepared, half), attempts=1)
            for half in (claimed[:middle], claimed[middle:])
        ]
        return sum(written for written, _ in halves), [row for _, bad in halves for row in bad]
    if not claimed or reason is None:
        return 0, []
    _record_failure(connection, collection, claimer, claimed[0], reason)
    return 0, [(claimed[0].key, reason)]


def _part(prepared: Prepared, claimed: Sequence[Claimed]) -> Prepared:
    keys = {row.key for row in claimed}
    return replace(prepared, rows=[row for row in prepared.rows if row.key in keys])


def _write_once(
    connection: Connection,
    collection: str,
    claimer: int,
    claimed: Sequence[Claimed],
    prepared: Prepared,
) -> int:
    embeddings = [] if prepared.vectors is None else halfvec_fields(prepared.vectors)
    blocks = copy_blocks(prepared.rows, embeddings, encoding=connection.info.encoding)
    side = sql.Identifier("pgembed_data", collection)
    with connection.transaction(), connection.cursor() as cursor:
        # Wait here as long as it takes for whoever builds an index; below only rows are waited for.
        cursor.execute(sql.SQL("lock table {} in row exclusive mode").format(side))
        # Shorter than deadlock_timeout: we give way before a writer is made the victim.
        cursor.execute("set local lock_timeout = '250ms'")
        with cursor.copy("copy pg_temp.pgembed_staging from stdin (format binary)") as copy:
            copy.write(b"".join(blocks))
        keys, versions = [row.key for row in claimed], [row.version for row in claimed]
        statement = "select pgembed.write_batch(%s, %s, %b::text[], %b::bigint[])"
        return int(rows_of(connection, statement, (collection, claimer, keys, versions))[0][0])


def _record_failure(
    connection: Connection, collection: str, claimer: int, row: Claimed, reason: str
) -> None:
    connection.execute(
        "select pgembed.record_failure(%s, %s, %s, %s, %s)",
        (collection, claimer, row.key, row.version, reason),
    )

"""One batch of a sync: claim stale rows, chunk and encode them, write them in one transaction."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from pgembed.collections import SearchTarget, search_target
from pgembed.copying import ChunkRow, copy_blocks, halfvec_fields
from pgembed.database import Connection, rows_of
from pgembed.encoders import Encoder
from pgembed.errors import FingerprintError, PgembedError
from pgembed.failpoints import reach
from pgembed.model import Chunk, Vectors

BATCH_ROWS = 256
"""Source rows a batch: enough for batches of equal length, few enough to lose little on a kill."""

LEASE = 3600.0
"""Seconds. A dead session frees its claims at once by its lock; the lease is for one that hangs."""

WRITE_ATTEMPTS = 2
"""Tries of a batch that a lock, a deadlock or a vanished source row stops; then of its halves."""

LOCK_TIMEOUT_MS = 250
"""Shorter than deadlock_timeout: we give way before a writer is made the victim."""

IMPATIENT_MS = 20
"""Of the halves of a batch that a lock stopped: 64 locked rows cost two seconds, not 30."""

WRITE_SECONDS = 60
"""Longest statement of a write: should this process freeze, the server ends its transaction."""

OF_A_ROW = ("21", "22", "23", "54")
"""Classes of SQLSTATE that speak of what a row holds; others are no row's fault."""

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


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of one batch."""

    claimed: int = 0
    documents: int = 0
    """Rows brought up to date."""
    chunks: int = 0
    encoded: int = 0
    failed: tuple[tuple[str, str], ...] = ()
    """Key and reason of each row that cannot be embedded."""


def work_batch(
    connection: Connection,
    target: SearchTarget,
    model: Encoder,
    claimer: int,
    *,
    batch_rows: int = BATCH_ROWS,
    lease: float = LEASE,
    on_progress: Callable[[int], None] | None = None,
) -> Batch:
    """Embed up to ``batch_rows`` stale rows of a collection; nothing claimed means nothing to do.

    Args:
        connection: in autocommit mode, with the staging table of ``make_staging``.
        target: the collection.
        model: its encoder.
        claimer: a number from ``claiming``.
        batch_rows: source rows.
        lease: seconds after which others may take the rows, should this session hang.
        on_progress: called between batches of the encoder with how many texts are done; what it
            raises beside an ``Exception`` ends the batch, and its rows stay claimed until they are
            released.

    Raises:
        FingerprintError: the collection was made anew with another encoder.
    """
    name = target.collection.name
    claimed = _claim(connection, name, claimer, batch_rows, lease)
    if not claimed:
        return Batch()
    reach("claimed")
    # After the claim: the collection may have been made anew meanwhile.
    target = search_target(connection, name)
    if target.fingerprint != model.spec.fingerprint:
        connection.execute("select pgembed.release(%s)", (claimer,))
        raise FingerprintError(f"collection {name!r} was made anew with another encoder")
    prepared, bad = _prepare_or_isolate(model, target, claimed, on_progress)
    reach("encoded")
    if on_progress:
        on_progress(0)  # a write may take a while: the lease begins anew
    for row, reason in bad:
        _record_failure(connection, name, claimer, row, reason)
    bad_keys = {row.key for row, _ in bad}
    good = [row for row in claimed if row.key not in bad_keys]
    written, refused = _write(connection, name, claimer, good, prepared)
    reach("committed")
    failed = [(row.key, reason) for row, reason in bad] + refused
    return Batch(len(claimed), written, len(prepared.rows), prepared.encoded, tuple(failed))


def content_hash(fingerprint: str, content: str) -> bytes:
    """What decides whether a stored embedding is still right: sha256 of model and text."""
    return hashlib.sha256(f"{fingerprint}\0{content}".encode()).digest()


@contextmanager
def claiming(connection: Connection) -> Iterator[int]:
    """A number to claim under; whatever is unfinished at the end goes back to the queue."""
    ((number,),) = rows_of(connection, "select pgembed.register_claimer()")
    try:
        yield number
    finally:
        if not connection.closed:
            connection.execute("select pgembed.release(%s)", (number,))
            connection.execute("select pg_advisory_unlock_shared(726101, %s)", (number,))


def make_staging(connection: Connection) -> None:
    """Make the temporary table through which this session writes."""
    ((schema,),) = rows_of(
        connection,
        "select n.nspname from pg_catalog.pg_extension as e"
        " join pg_catalog.pg_namespace as n on n.oid = e.extnamespace where e.extname = 'vector'",
    )
    connection.execute(sql.SQL(STAGING).format(sql.Identifier(schema, "halfvec")))


def _claim(
    connection: Connection, collection: str, claimer: int, batch_rows: int, lease: float
) -> list[Claimed]:
    rows = rows_of(
        connection,
        "select key, version, coalesce(content, ''), hashes"
        " from pgembed.claim(%s, %s, %s, make_interval(secs => %s))",
        (collection, claimer, batch_rows, lease),
        binary=True,
    )
    return [
        Claimed(key, version, content, frozenset(hashes or ()))
        for key, version, content, hashes in rows
    ]


def _prepare(
    model: Encoder,
    target: SearchTarget,
    claimed: Sequence[Claimed],
    on_progress: Callable[[int], None] | None = None,
) -> Prepared:
    """Chunk the rows, and encode each text that no stored embedding serves, once."""
    rows: list[ChunkRow] = []
    texts: dict[str, int] = {}
    for row in claimed:
        for chunk in chunk_text(model, target, row.content):
            digest = content_hash(target.fingerprint, chunk.content)
            known = digest in row.hashes
            number = None if known else texts.setdefault(chunk.content, len(texts))
            rows.append(
                ChunkRow(
                    row.key, chunk.number, chunk.content, chunk.start, chunk.end, digest, number
                )
            )
    vectors = model.encode_document(list(texts), on_progress=on_progress) if texts else None
    return Prepared(rows, vectors, len(texts))


def chunk_text(model: Encoder, target: SearchTarget, text: str) -> list[Chunk]:
    """Cut a text as the collection wants it."""
    bounds = target.collection
    return model.chunk(text, max_tokens=bounds.max_tokens, overlap=bounds.overlap)


def _prepare_or_isolate(
    model: Encoder,
    target: SearchTarget,
    claimed: Sequence[Claimed],
    on_progress: Callable[[int], None] | None,
) -> tuple[Prepared, list[tuple[Claimed, str]]]:
    """Prepare a batch; when a row stops it, find that row so that its batch-mates succeed."""
    try:
        return _prepare(model, target, claimed, on_progress), []
    except psycopg.Error:
        raise
    except Exception:  # a tokenizer or runtime may raise anything
        bad: list[tuple[Claimed, str]] = []
        for row in claimed:
            try:
                _prepare(model, target, [row], on_progress)
            except psycopg.Error:
                raise
            except Exception as error:
                if not isinstance(error, PgembedError) and len(bad) == len(claimed) - 1 > 0:
                    raise  # not one of them can be encoded: no row is at fault
                bad.append((row, str(error) or type(error).__name__))
        names = {row.key for row, _ in bad}
        good = [row for row in claimed if row.key not in names]
        return _prepare(model, target, good, on_progress), bad


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
            started = time.monotonic()
            patience = LOCK_TIMEOUT_MS if attempts == WRITE_ATTEMPTS else IMPATIENT_MS
            return _write_once(connection, collection, claimer, claimed, prepared, patience), []
        except PASSING:
            continue
        except psycopg.Error as error:
            # A text of so many chunks that they cannot be written in time is told by the time.
            slow = time.monotonic() - started > WRITE_SECONDS - 1
            late = isinstance(error, psycopg.errors.QueryCanceled) and slow
            if not (late or (error.sqlstate or "").startswith(OF_A_ROW)):
                raise
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
    patience_ms: int,
) -> int:
    embeddings = [] if prepared.vectors is None else halfvec_fields(prepared.vectors)
    blocks = copy_blocks(prepared.rows, embeddings, encoding=connection.info.encoding)
    side = sql.Identifier("pgembed_data", collection)
    with connection.transaction(), connection.cursor() as cursor:
        # Wait here as long as it takes for whoever builds an index; below only rows are waited for.
        cursor.execute(sql.SQL("lock table {} in row exclusive mode").format(side))
        cursor.execute("select set_config('lock_timeout', %s, true)", (f"{patience_ms}ms",))
        cursor.execute("select set_config('statement_timeout', %s, true)", (f"{WRITE_SECONDS}s",))
        cursor.execute("set local idle_in_transaction_session_timeout = '10s'")
        with cursor.copy("copy pg_temp.pgembed_staging from stdin (format binary)") as copy:
            copy.write(b"".join(blocks))
            reach("copying")
        keys, versions = [row.key for row in claimed], [row.version for row in claimed]
        statement = "select pgembed.write_batch(%s, %s, %b::text[], %b::bigint[])"
        written = int(rows_of(connection, statement, (collection, claimer, keys, versions))[0][0])
        reach("written")
        return written


def _record_failure(
    connection: Connection, collection: str, claimer: int, row: Claimed, reason: str
) -> None:
    connection.execute(
        "select pgembed.record_failure(%s, %s, %s, %s, %s)",
        (collection, claimer, row.key, row.version, reason),
    )

"""Bring collections in step with their sources: claim, encode, write, one short batch at a time."""

from __future__ import annotations

import time
from collections.abc import Callable

from psycopg import sql
from psycopg.pq import TransactionStatus

from pgembed.batches import BATCH_ROWS, chunk_text, claiming, make_staging, work_batch
from pgembed.collections import search_target
from pgembed.database import Connection, rows_of, translated
from pgembed.encoders import Encoder
from pgembed.errors import InputError
from pgembed.model import SyncReport
from pgembed.registry import matching_encoder


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
        chunk_text(model, target, "")  # refuses bounds that no row could be cut with
        documents = chunks = encoded = 0
        failed: list[tuple[str, str]] = []
        waiting = _count_waiting(connection, collection)
        make_staging(connection)
        with claiming(connection) as claimer:
            while (
                batch := work_batch(connection, target, model, claimer, batch_rows=batch_rows)
            ).claimed:
                documents += batch.documents
                chunks += batch.chunks
                encoded += batch.encoded
                failed += batch.failed
                if on_progress:
                    done = documents + len(failed)
                    on_progress(done, max(waiting, done))
        build_index(connection, collection)
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


def build_index(connection: Connection, collection: str) -> None:
    """Build the index after the first load.

    Not while another session is embedding, whose writes would have to wait; and not of an empty
    table, whose first load would then be the slow kind, row by row into the index.
    """
    side = sql.Identifier("pgembed_data", collection)
    if rows_of(connection, sql.SQL("select from {} limit 1").format(side)):
        connection.execute(
            "select pgembed.build_index(%(name)s) where not exists (select from pgembed.stale"
            " where collection = %(name)s"
            " and claimed_by = any ((select pgembed.living_claimers())::int[]))",
            {"name": collection},
        )


def _count_waiting(connection: Connection, collection: str) -> int:
    statement = (
        "select (select count(*) from pgembed.stale where collection = %(name)s)"
        " + (select coalesce(sum(row_count), 0) from pgembed.change where collection = %(name)s)"
    )
    return int(rows_of(connection, statement, {"name": collection})[0][0])

"""Workers and the queue as a DBA sees them: status, failures, pause, resume, retry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pgembed.database import Connection, rows_of, translated


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What a worker last said of itself."""

    id: int
    host: str
    pid: int
    version: str
    alive: bool
    """Whether it is connected now."""
    collections: Sequence[str] | None
    """Those that it serves; None for all."""
    started_at: datetime
    seen_at: datetime
    requests: int
    """Query texts answered since its start."""
    documents: int
    """Source rows brought up to date since its start."""
    chunks: int
    failures: int
    throughput: float
    """Source rows a second over the last minute."""
    last_error: str | None
    last_error_at: datetime | None


@dataclass(frozen=True, slots=True)
class Failure:
    """A source row that could not be embedded."""

    collection: str
    key: str
    error: str
    attempts: int
    failed_at: datetime


def list_workers(connection: Connection) -> list[WorkerStatus]:
    """Workers of the last day, the living first."""
    with translated():
        return [
            WorkerStatus(*row)
            for row in rows_of(connection, "select * from pgembed.worker_status()", binary=True)
        ]


def recent_failures(
    connection: Connection, collection: str | None = None, *, limit: int = 20
) -> list[Failure]:
    """The newest failures, of one collection or of all."""
    statement = (
        "select collection, key, error, attempts, failed_at from pgembed.failure"
        " where %(name)s::text is null or collection = %(name)s"
        " order by failed_at desc, key limit %(limit)s"
    )
    with translated():
        rows = rows_of(connection, statement, {"name": collection, "limit": limit}, binary=True)
    return [Failure(*row) for row in rows]


def waiting_requests(connection: Connection) -> int:
    """Query texts that SQL sessions wait for now."""
    statement = "select count(*) from pgembed.encode_request where answered_at is null"
    with translated():
        return int(rows_of(connection, statement)[0][0])


def pause(connection: Connection, collection: str) -> None:
    """Claim nothing of a collection any more; see ``pgembed.pause`` in SQL."""
    with translated():
        connection.execute("select pgembed.pause(%s)", (collection,))


def resume(connection: Connection, collection: str) -> None:
    """Let a paused collection go on."""
    with translated():
        connection.execute("select pgembed.resume(%s)", (collection,))


def retry(connection: Connection, collection: str) -> int:
    """Put the failed rows of a collection back into the queue; how many."""
    with translated():
        return int(rows_of(connection, "select pgembed.retry(%s)", (collection,))[0][0])

"""Keep collections in step: a batch of whichever waits most urgently, again and again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import psycopg

from pgembed.batches import Batch, claiming, make_staging, work_batch
from pgembed.collections import SearchTarget, search_target
from pgembed.database import Connection, rows_of, translated
from pgembed.errors import NotFoundError, PgembedError
from pgembed.registry import open_registered
from pgembed.syncing import build_index
from pgembed.worker.counters import Counters
from pgembed.worker.loops import Loop
from pgembed.worker.options import WorkerOptions

log = logging.getLogger("pgembed.worker")

LOCKED, LONGEST_LOCKED = 1.0, 15.0
"""Seconds that rows rest which a writer keeps locked, so that others go first; at most."""

FREEZE = 3600.0
"""Seconds between two freezes of the staging table: autovacuum does not see temporary tables, and
its age would hold back the whole database."""

OUT_OF_ORDER = 30.0
"""Seconds that a collection rests after an error."""


class StoppedError(BaseException):
    """The worker is told to stop, and the grace of its batch is over: no row is at fault."""


class KeepingLoop(Loop):
    """One session that embeds documents."""

    def __init__(
        self, name: str, options: WorkerOptions, counters: Counters, stop: threading.Event
    ) -> None:
        super().__init__(name, options, counters, stop)
        self._resting: dict[str, float] = {}
        self._complete: set[str] = set()
        self._deadline: float | None = None
        self._claimer: int | None = None
        self._locked = 0.0
        self._frozen = time.monotonic()

    def work(self, connection: Connection) -> None:
        """Embed what waits until told to stop; where the worker runs once, until nothing does."""
        make_staging(connection)
        if self._claimer is not None:
            # A session got lost, but this process did not die: no row is to blame.
            connection.execute("select pgembed.release(%s)", (self._claimer,))
        with claiming(connection) as claimer:
            self._claimer = claimer
            try:
                while not self.stop.is_set():
                    self.beat()
                    if not self._work_one(connection, claimer):
                        self._finish(connection)
                        self._freeze(connection)
                        if self.options.once:
                            return
                        self.stop.wait(self.options.poll)
            except StoppedError:
                log.info("stopped within a batch; its rows go back", extra={"loop": self.name})

    def _work_one(self, connection: Connection, claimer: int) -> bool:
        """One batch of the first collection that has any; whether there was one."""
        names = self.options.collections and list(self.options.collections)
        statement = "select name from pgembed.waiting_collections(%s::text[])"
        for (name,) in rows_of(connection, statement, (names,)):
            if self._resting.get(name, 0.0) > time.monotonic():
                continue
            try:
                with translated():
                    batch = self._batch(connection, claimer, name)
            except NotFoundError:
                continue  # dropped meanwhile
            except (PgembedError, psycopg.Error) as error:
                if connection.closed:
                    raise
                self._rest(connection, claimer, name, error)
                continue
            if batch.claimed:
                self._complete.discard(name)
                return True
        return False

    def _batch(self, connection: Connection, claimer: int, name: str) -> Batch:
        started = time.monotonic()
        target = search_target(connection, name)
        batch = work_batch(
            connection,
            target,
            open_registered(connection, target.collection.encoder, target.fingerprint, threads=1),
            claimer,
            batch_rows=self._rows(),
            lease=self.options.lease,
            on_progress=self._pacer(connection, claimer),
        )
        self._note(target, batch, time.monotonic() - started)
        if batch.documents + len(batch.failed) < batch.claimed:
            # Longer each time, so that rows which a writer holds do not keep others waiting.
            self._locked = min(2 * self._locked, LONGEST_LOCKED) if self._locked else LOCKED
            connection.execute(
                "select pgembed.release(%s, make_interval(secs => %s))", (claimer, self._locked)
            )
        elif batch.claimed:
            self._locked = 0.0
        if self.options.rate and batch.claimed:
            self.stop.wait(batch.claimed / self.options.rate - (time.monotonic() - started))
        return batch

    def _rows(self) -> int:
        """Rows of a batch; under a rate limit no more than a second's worth."""
        rate = self.options.rate
        return min(self.options.batch_rows, max(1, int(rate))) if rate else self.options.batch_rows

    def _pacer(self, connection: Connection, claimer: int) -> Callable[[int], None]:
        """What happens between two batches of the encoder."""
        renewed = time.monotonic()

        def pause(_: int) -> None:
            nonlocal renewed
            self.beat()
            give_way = time.monotonic() + 0.25
            while self.counters.answering.is_set() and time.monotonic() < give_way:
                time.sleep(0.001)
            now = time.monotonic()
            if self.stop.is_set():
                self._deadline = self._deadline or now + self.options.grace
                if now > self._deadline:
                    raise StoppedError
            if now - renewed > self.options.lease / 3:
                connection.execute(
                    "select pgembed.renew(%s, make_interval(secs => %s))",
                    (claimer, self.options.lease),
                )
                renewed = now

        return pause

    def _note(self, target: SearchTarget, batch: Batch, seconds: float) -> None:
        if not batch.claimed:
            return
        self.counters.wrote(batch.documents, batch.chunks, len(batch.failed))
        fields = {
            "collection": target.collection.name,
            "documents": batch.documents,
            "chunks": batch.chunks,
            "encoded": batch.encoded,
            "failed": len(batch.failed),
            "ms": round(seconds * 1000),
        }
        log.info("embedded", extra=fields)
        for key, reason in batch.failed:
            self.counters.failed(f"{target.collection.name} {key}: {reason}")
            log.warning(reason, extra={"collection": target.collection.name, "key": key})

    def _rest(self, connection: Connection, claimer: int, name: str, error: Exception) -> None:
        """Leave a collection alone for a while; its rows go back to the queue."""
        self._resting[name] = time.monotonic() + OUT_OF_ORDER
        reason = f"{name}: {str(error).strip()}"
        self.counters.failed(reason)
        log.error(reason, extra={"collection": name, "rests_s": OUT_OF_ORDER})
        connection.execute("select pgembed.release(%s)", (claimer,))

    def _freeze(self, connection: Connection) -> None:
        if time.monotonic() > self._frozen + FREEZE:
            connection.execute("vacuum (freeze) pg_temp.pgembed_staging")
            self._frozen = time.monotonic()

    def _finish(self, connection: Connection) -> None:
        """Build the index of what is loaded for the first time, where this role owns the table."""
        statement = (
            "select c.name from pgembed.collection as c where not pgembed.has_hnsw(c.name)"
            " and (%(names)s::text[] is null or c.name = any (%(names)s)) and c.paused_at is null"
        )
        names = self.options.collections and list(self.options.collections)
        for (name,) in rows_of(connection, statement, {"names": names}):
            if name in self._complete:
                continue
            self._complete.add(name)
            # It may take minutes, in which this loop says nothing.
            self.counters.ended(self.name)
            try:
                build_index(connection, name)
                if rows_of(connection, "select pgembed.has_hnsw(%s)", (name,)) == [(False,)]:
                    self._complete.discard(name)  # another session is still loading
            except psycopg.errors.InsufficientPrivilege:
                reason = (
                    f"{name} has no index, and this role does not own its table:"
                    " let its owner run select pgembed.build_index(...)"
                )
                self.counters.failed(reason)
                log.warning(reason, extra={"collection": name})

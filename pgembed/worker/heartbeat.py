"""Say every few seconds what the worker did, and sweep what nobody needs any more."""

from __future__ import annotations

import os
import socket
import time
from importlib.metadata import version

import psycopg

from pgembed.database import Connection, rows_of
from pgembed.worker.loops import Loop, log

BEAT = 5.0
SWEEP_REQUESTS = 10.0
SWEEP_COLLECTIONS = 60.0
"""Seconds between two of each."""


class HeartbeatLoop(Loop):
    """Holds the advisory lock that says that this worker lives."""

    def work(self, connection: Connection) -> None:
        """Report until told to stop, which is after the other loops have ended."""
        ((number,),) = rows_of(connection, "select pgembed.register_claimer()")
        swept_requests = swept_collections = float("-inf")
        while True:
            self.beat()
            self._report_status(connection, number)
            now = time.monotonic()
            if now - swept_requests > SWEEP_REQUESTS and self.options.queries:
                connection.execute(
                    "select pgembed.sweep_requests(make_interval(secs => %s), %s)",
                    (self.options.cache_ttl, self.options.cache_size),
                )
                swept_requests = now
            if now - swept_collections > SWEEP_COLLECTIONS:
                self._sweep(connection)
                swept_collections = now
            if self.stop.wait(BEAT):
                self._report_status(connection, number)
                return

    def _report_status(self, connection: Connection, number: int) -> None:
        counters = self.counters
        connection.execute(
            "select pgembed.report_worker(%s, %s, %s, %s, %s::text[], %s, %s, %s, %s, %s, %s,"
            " %s::timestamptz)",
            (
                number,
                socket.gethostname(),
                os.getpid(),
                version("pgembed-router"),
                self.options.collections and list(self.options.collections),
                counters.requests,
                counters.documents,
                counters.chunks,
                counters.failures,
                counters.throughput(),
                counters.last_error,
                counters.last_error_at,
            ),
        )

    def _sweep(self, connection: Connection) -> None:
        """Let expired rows of each collection lose their chunks."""
        names = self.options.collections and list(self.options.collections)
        statement = (
            "select name from pgembed.collection"
            " where %(names)s::text[] is null or name = any (%(names)s)"
        )
        for (name,) in rows_of(connection, statement, {"names": names}):
            try:
                connection.execute("select pgembed.sweep(%s)", (name,))
            except psycopg.Error as error:
                if connection.closed:
                    raise
                # A collection whose source is broken must not keep others from their sweep.
                log.warning(str(error).strip(), extra={"collection": name})

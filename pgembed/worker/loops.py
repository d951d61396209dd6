"""Threads of a worker that hold a connection, and come back when it is lost."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from contextlib import suppress

import psycopg
import tenacity
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgembed.database import Connection, connect
from pgembed.errors import PgembedError
from pgembed.worker.counters import Counters
from pgembed.worker.options import WorkerOptions

log = logging.getLogger("pgembed.worker")

NETWORK = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": "30000",
}
"""A network that is cut is noticed within half a minute, here and by the server."""

SESSION = (
    "select set_config(name, value, false) from (values"
    " ('tcp_keepalives_idle', '10'), ('tcp_keepalives_interval', '5'),"
    " ('tcp_keepalives_count', '4'),"
    " ('idle_in_transaction_session_timeout', '10s'), ('application_name', 'pgembed worker'),"
    " ('default_transaction_isolation', 'read committed'))"
    " as setting (name, value)"
)


class Loop(ABC):
    """A thread that works over one connection until it is told to stop.

    An error is logged and counted, the connection opened anew after a pause that grows to ten
    seconds, and the work begun again: what it had claimed is free once its session is gone.
    """

    def __init__(
        self, name: str, options: WorkerOptions, counters: Counters, stop: threading.Event
    ) -> None:
        self.name = name
        self.options = options
        self.counters = counters
        self.stop = stop
        self.connection: Connection | None = None
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    @abstractmethod
    def work(self, connection: Connection) -> None:
        """Work until ``stop`` is set or, where the worker runs once, until nothing is left."""

    def cancel(self) -> None:
        """End the statement that the loop is at, if any."""
        if self.connection is not None and not self.connection.closed:
            with suppress(psycopg.Error):
                self.connection.cancel_safe(timeout=5)

    def beat(self) -> None:
        """Say that this loop is alive."""
        self.counters.beat(self.name)

    def _run(self) -> None:
        wait = tenacity.wait_exponential(multiplier=0.1, max=10) + tenacity.wait_random(0, 0.1)
        attempts = tenacity.Retrying(
            wait=wait,
            retry=tenacity.retry_if_exception_type(Exception),
            stop=tenacity.stop_when_event_set(self.stop),
            sleep=tenacity.sleep_using_event(self.stop),
            before_sleep=self._report,
            reraise=True,
        )
        try:
            while not self.stop.is_set():
                # After a connection that lived, the pauses are short again.
                if attempts.copy()(self._session):
                    break
        except Exception as error:
            self._complain(error)
        finally:
            self.counters.ended(self.name)

    def _session(self) -> bool:
        """One connection's time: whether the work ended in order; False to connect once more."""
        self.beat()
        given = conninfo_to_dict(self.options.url)
        missing = {name: value for name, value in NETWORK.items() if name not in given}
        with connect(make_conninfo(self.options.url, **missing)) as connection:
            connection.execute(SESSION)
            with suppress(psycopg.Error):
                # Not on every platform: the server notices at once when this process is gone.
                connection.execute("set client_connection_check_interval = '1s'")
            self.connection = connection
            try:
                self.work(connection)
            except psycopg.OperationalError as error:
                if not connection.closed:
                    raise
                self._complain(error)
                return False
            return True

    def _report(self, state: tenacity.RetryCallState) -> None:
        assert state.outcome is not None
        self.beat()
        self._complain(state.outcome.exception())

    def _complain(self, error: BaseException | None) -> None:
        reason = str(error).strip() or type(error).__name__
        self.counters.failed(f"{self.name}: {reason}")
        known = isinstance(error, PgembedError | psycopg.Error)
        log.error(reason, extra={"loop": self.name}, exc_info=None if known else error)

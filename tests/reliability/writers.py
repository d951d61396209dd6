"""Writers that keep a ledger: a write is in it once its commit was acknowledged, and not before."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import psycopg

from pgembed.database import Connection
from tests.reliability.support import lost_connection, put, some_text

Plan = dict[int, str | None]
"""New text of each row that a transaction writes; None deletes it."""


class Writer(threading.Thread):
    """Inserts, updates and deletes rows whose number is its own modulo the number of writers.

    A commit whose answer got lost with the connection is in doubt: after the next connect the rows
    tell, all of one transaction the same, whether it happened.
    """

    def __init__(
        self, url: str, number: int, of: int, *, seed: int, rows: int, pause: float
    ) -> None:
        super().__init__(daemon=True, name=f"writer-{number}")
        self.url, self.number, self.of, self.rows, self.pause = url, number, of, rows, pause
        self.chance = random.Random(f"{seed} {number}")
        self.halt = threading.Event()
        self.ledger: dict[int, str] = {}
        self.doubt: Plan = {}
        self.commits = self.unanswered = 0
        self.errors: list[str] = []
        """What went wrong other than a lost connection: an acknowledged write that is gone, or
        a statement that a worker made fail."""

    def run(self) -> None:
        """Write until told to stop; come back after a lost connection."""
        while not (self.halt.is_set() and not self.doubt):
            try:
                with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as connection:
                    self._session(connection)
            except psycopg.OperationalError:
                time.sleep(0.05)
            except Exception as error:
                self.errors.append(repr(error))
                return

    def _session(self, connection: Connection) -> None:
        self._settle(connection)
        while not self.halt.wait(self.pause):
            try:
                self._write(connection)
            except psycopg.Error as error:
                if lost_connection(error, connection):
                    self.unanswered += 1
                    return
                self.errors.append(f"{type(error).__name__}: {error}")
                self.doubt = {}

    def _write(self, connection: Connection) -> None:
        """One transaction of some rows; one in ten changes its mind about half of them."""
        plan = self._plan(1 + int(self.chance.expovariate(0.5)))
        with connection.transaction():
            apply(connection, plan)
            if self.chance.random() < 0.1:
                with suppress(_ChangedMindError), connection.transaction():
                    apply(connection, self._plan(3))
                    raise _ChangedMindError
            self.doubt = plan
        # psycopg commits nothing, and says nothing, where the connection broke while a savepoint
        # was rolled back.
        if connection.broken:
            raise psycopg.OperationalError("the connection broke before the commit")
        self._acknowledge()

    def _plan(self, size: int) -> Plan:
        keys = {self.chance.randrange(self.rows) * self.of + self.number for _ in range(size)}
        return {
            key: None if self.chance.random() < 0.2 else some_text(self.chance)
            for key in sorted(keys)
        }

    def _acknowledge(self) -> None:
        for key, text in self.doubt.items():
            if text is None:
                self.ledger.pop(key, None)
            else:
                self.ledger[key] = text
        self.doubt = {}
        self.commits += 1

    def _settle(self, connection: Connection) -> None:
        """Look whether a commit that nobody answered has happened."""
        if not self.doubt:
            return
        rows = connection.execute(
            "select id, body from notes where id = any (%s)", (list(self.doubt),)
        )
        present = dict(rows.fetchall())
        after = {key: present.get(key) for key in self.doubt}
        before = {key: self.ledger.get(key) for key in self.doubt}
        if after == self.doubt:
            self._acknowledge()
        elif after == before:
            self.doubt = {}
        else:
            self.errors.append(f"a transaction happened in part: {sorted(self.doubt)}")
            self.doubt = {}


class _ChangedMindError(Exception):
    """Rolls back to a savepoint."""


def apply(connection: Connection, plan: Mapping[int, str | None]) -> None:
    """Write what a plan says."""
    gone = [key for key, text in plan.items() if text is None]
    if gone:
        connection.execute("delete from notes where id = any (%s)", (gone,))
    put(connection, {key: text for key, text in plan.items() if text is not None})


@contextmanager
def writing(
    url: str, *, seed: int, writers: int = 4, rows: int = 100, pause: float = 0.01
) -> Iterator[list[Writer]]:
    """Writers at work for the time of the block; afterwards they have stopped, and settled."""
    threads = [
        Writer(url, number, writers, seed=seed, rows=rows, pause=pause) for number in range(writers)
    ]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        halt(threads)


def halt(writers: list[Writer]) -> None:
    """Stop writers, and wait until what they are in doubt of is settled."""
    for writer in writers:
        writer.halt.set()
    for writer in writers:
        writer.join(60)
        assert not writer.is_alive()


def acknowledged(writers: list[Writer]) -> dict[int, str]:
    """The ledgers of all writers; whoever met an error that is no lost connection says so."""
    errors = [error for writer in writers for error in writer.errors]
    assert not errors, errors[:5]
    return {key: text for writer in writers for key, text in writer.ledger.items()}

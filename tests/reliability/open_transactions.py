"""How long a worker's transactions stay open while it encodes."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import psycopg

from pgembed.database import connect
from tests.reliability.processes import WorkerProcess, backends, claimers, claims
from tests.reliability.support import drained, judge, make_notes, put

WRITING = r"^(begin|lock table|set local|copy|select pgembed\.write_batch|commit|rollback)"
"""Statements of the transaction that writes a batch."""


@dataclass(slots=True)
class OpenTransactions:
    """The longest transaction of a worker, by what it was doing, in milliseconds."""

    encoding_ms: float = 0.0
    """Any but those that write, also one that a claim left open."""
    writing_ms: float = 0.0
    claimed_ms: float = 0.0
    """How long rows were claimed: what a transaction that stays open while encoding would take."""
    samples: int = 0


def measure_open_transactions(url: str, *, rows: int = 64) -> OpenTransactions:
    """Let a worker embed long texts, and look every few milliseconds what it has open."""
    bodies = {n: " ".join(f"ocean {n} {m}" for m in range(400)) for n in range(1, rows + 1)}
    with connect(url) as connection, WorkerProcess(url, "--batch", "32") as worker:
        make_notes(connection)
        put(connection, {0: "warm"})
        worker.wait_for("embedded")
        sampler = _Sampler(url, worker)
        sampler.start()
        put(connection, bodies)
        drained(connection)
        found = sampler.stop()
        verdict = judge(connection, {0: "warm", **bodies})
        assert verdict.clean, verdict
    return found


class _Sampler(threading.Thread):
    """Looks for open transactions of a worker until it is stopped."""

    def __init__(self, url: str, worker: WorkerProcess) -> None:
        super().__init__(daemon=True)
        self.found, self.halt = OpenTransactions(), threading.Event()
        self.connection = psycopg.connect(url, autocommit=True)
        self.pids = backends(self.connection, worker)
        self.numbers = claimers(self.connection, worker)

    def run(self) -> None:
        """Sample."""
        since: float | None = None
        while not self.halt.wait(0.002):
            rows = self.connection.execute(
                "select lower(query) ~ %s, extract(epoch from clock_timestamp() - xact_start) * 1000"
                " from pg_stat_activity where pid = any (%s) and xact_start is not null",
                (WRITING, self.pids),
            ).fetchall()
            self.found.samples += 1
            for writes, age in rows:
                name = "writing_ms" if writes else "encoding_ms"
                setattr(self.found, name, max(getattr(self.found, name), float(age)))
            if claims(self.connection, self.numbers):
                since = since or time.monotonic()
                held = (time.monotonic() - since) * 1000
                self.found.claimed_ms = max(self.found.claimed_ms, held)
            else:
                since = None

    def stop(self) -> OpenTransactions:
        """Stop, and say what was found."""
        self.halt.set()
        self.join(30)
        self.connection.close()
        return self.found

"""Kill workers under writers, and measure: what is lost, who takes over when, what stays open."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg

from pgembed.database import Connection, connect
from tests.reliability.processes import WorkerProcess, backends, claimers, claims
from tests.reliability.support import Verdict, drained, eventually, judge
from tests.reliability.writers import acknowledged, writing

POINTS = ("claimed", "encoded", "copying", "written", "committed")

WRITING = r"^(begin|lock table|set local|copy|select pgembed\.write_batch|commit|rollback)"
"""Statements of the transaction that writes a batch."""


@dataclass(slots=True)
class Killed:
    """What a run of kills found."""

    kills: int = 0
    at: dict[str, int] = field(default_factory=dict)
    commits: int = 0
    takeovers: list[float] = field(default_factory=list)
    """Seconds until rows that a worker held when it died were another's, or written."""
    verdict: Verdict = field(default_factory=Verdict)
    seconds: float = 0.0

    @property
    def takeover_max(self) -> float:
        """The longest."""
        return max(self.takeovers)


def kill_workers(
    url: str, *, kills: int, seed: int, on_kill: Callable[[int], None] = lambda _: None
) -> Killed:
    """Kill one worker after the other at a random point while writers write, and judge.

    One worker survives every time; it is then killed itself, and the one that follows survives.
    A victim either dies at its point by itself, or freezes there, so that what it holds is known,
    and is killed then.
    """
    chance, found, started = random.Random(seed), Killed(), time.monotonic()
    survivor = WorkerProcess(url)
    try:
        with connect(url) as connection, writing(url, seed=seed) as writers:
            survivor.wait_for("embedded")
            points = [POINTS[n % len(POINTS)] for n in range(kills)]
            chance.shuffle(points)
            for number, point in enumerate(points, 1):
                victim = _victim(url, point, chance)
                with victim:
                    _die(connection, victim, found)
                found.at[point] = found.at.get(point, 0) + 1
                on_kill(number)
                if number % 10 == 5:
                    survivor = _relieve(url, survivor)
                    found.at["anywhere"] = found.at.get("anywhere", 0) + 1
        found.kills = sum(found.at.values())
        found.commits = sum(writer.commits for writer in writers)
        with connect(url) as connection:
            drained(connection)
            found.verdict = judge(connection, acknowledged(writers))
        assert survivor.running, survivor.output()[-4000:]
    finally:
        survivor.close()
    found.seconds = time.monotonic() - started
    return found


def _victim(url: str, point: str, chance: random.Random) -> WorkerProcess:
    action = chance.choice(("kill", "stop", "stop"))
    return WorkerProcess(url, failpoint=f"{point}:{action}:{chance.choice((1, 0.5, 0.2))}")


def _die(connection: Connection, victim: WorkerProcess, found: Killed) -> None:
    """Wait for a victim's end; where it freezes, kill it, and see who takes its rows."""
    eventually(lambda: not victim.running or victim.frozen(), "the victim dies or freezes", 60)
    if not victim.running:
        assert victim.process.returncode == -signal.SIGKILL, victim.output()[-4000:]
        return
    numbers = claimers(connection, victim)
    held = claims(connection, numbers)
    victim.process.kill()
    died = time.monotonic()
    eventually(lambda: claims(connection, numbers) == 0, "another worker takes over", 30)
    if held:
        found.takeovers.append(time.monotonic() - died)


def _relieve(url: str, survivor: WorkerProcess) -> WorkerProcess:
    """Kill the survivor wherever it is, once another can take its place."""
    following = WorkerProcess(url)
    following.wait_for("embedded")
    survivor.close()
    return following


@dataclass(slots=True)
class OpenTransactions:
    """The longest transaction of a worker, by what it was doing, in milliseconds."""

    encoding_ms: float = 0.0
    """Any but those that write, also one that a claim left open."""
    writing_ms: float = 0.0
    claimed_ms: float = 0.0
    """How long rows were claimed: what a transaction that stays open while encoding would take."""
    samples: int = 0


class Sampler(threading.Thread):
    """Looks every few milliseconds for open transactions of a worker."""

    def __init__(self, url: str, worker: WorkerProcess) -> None:
        super().__init__(daemon=True)
        self.found, self.halt = OpenTransactions(), threading.Event()
        self.connection = psycopg.connect(url, autocommit=True)
        self.pids, self.numbers = (
            backends(self.connection, worker),
            claimers(self.connection, worker),
        )

    def run(self) -> None:
        """Sample until told to stop."""
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

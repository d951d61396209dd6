"""Kill the server under writers and a worker, and look whether what it acknowledged is there."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pgembed.database import connect
from pgembed.server import EmbeddedServer, status
from tests.reliability.processes import WorkerProcess
from tests.reliability.proxy import Proxy
from tests.reliability.support import Verdict, drained, eventually, judge
from tests.reliability.writers import acknowledged, halt, writing


@dataclass(slots=True)
class Crashed:
    """What a run of crashes found."""

    kills: int = 0
    commits: int = 0
    unanswered: int = 0
    """Commits whose answer got lost with the connection."""
    recoveries: list[float] = field(default_factory=list)
    """Seconds from the restarted server's readiness to the worker's next written batch."""
    verdict: Verdict = field(default_factory=Verdict)
    seconds: float = 0.0


def kill_postmasters(
    server: EmbeddedServer,
    *,
    kills: int,
    seed: int,
    on_kill: Callable[[int], None] = lambda _: None,
    enough: Callable[[], bool] = lambda: False,
) -> Crashed:
    """Kill and restart the server again and again, then judge.

    Every other time by SIGKILL, which leaves orphaned backends, else by an immediate shutdown. The
    server comes back at another port, so worker and writers connect through a proxy.

    Args:
        server: started, with an empty collection ``notes`` in its database.
        kills: how often.
        seed: of what is written and when.
        on_kill: told how many there were.
        enough: asked after each restart whether to end early.
    """
    chance, found, started = random.Random(seed), Crashed(), time.monotonic()
    with (
        Proxy(server.url) as proxy,
        WorkerProcess(proxy.url) as worker,
        writing(proxy.url, seed=seed) as writers,
    ):
        worker.wait_for("embedded")
        for number in range(1, kills + 1):
            time.sleep(chance.uniform(0.2, 1.0))  # the moment of the kill is random
            kill = signal.SIGKILL if number % 2 else signal.SIGQUIT
            _kill(server.home, kill)
            server.start()
            proxy.aim(server.url)
            found.recoveries.append(_recovery(worker))
            found.kills = number
            on_kill(number)
            if enough():
                break
        halt(writers)
        with connect(server.url) as connection:
            drained(connection)
            found.verdict = judge(connection, acknowledged(writers))
        assert worker.running, worker.output()[-4000:]
    found.commits = sum(writer.commits for writer in writers)
    found.unanswered = sum(writer.unanswered for writer in writers)
    found.seconds = time.monotonic() - started
    return found


def _kill(home: Path, number: signal.Signals) -> None:
    pid = status(home).pid
    assert pid is not None
    os.kill(pid, number)
    eventually(lambda: not status(home).running, "the postmaster is gone")


def _recovery(worker: WorkerProcess) -> float:
    """Wait until the worker writes again, which proves that writers do too."""
    ready, before = time.monotonic(), len(worker.events("embedded"))
    worker.wait_for("embedded", 60, count=before + 1)
    return time.monotonic() - ready

"""Kill workers under writers, and measure: what is lost, who takes over when, what stays open."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pgembed.database import Connection, connect
from tests.reliability.processes import WorkerProcess, claimers, claims
from tests.reliability.support import Verdict, drained, eventually, judge
from tests.reliability.writers import acknowledged, writing

POINTS = ("claimed", "encoded", "copying", "written", "committed")


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
    url: str,
    *,
    kills: int,
    seed: int,
    on_kill: Callable[[int], None] = lambda _: None,
    enough: Callable[[], bool] = lambda: False,
) -> Killed:
    """Kill one worker after the other at a random point while writers write, and judge.

    One worker survives every time; it is then killed itself, and the one that follows survives.
    A victim either dies at its point by itself, or freezes there, so that what it holds is known,
    and is killed then.

    Args:
        url: a database with an empty collection ``notes``.
        kills: of victims.
        seed: of what is written and where victims die.
        on_kill: told how many have died.
        enough: asked after each kill whether to end early.
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
                if enough():
                    break
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

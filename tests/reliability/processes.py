"""Real worker processes: started, frozen, killed, and asked which rows they hold."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import psutil

from pgembed.database import Connection
from tests.reliability.support import eventually

COMMAND = ("-m", "pgembed")
PATCHED = ("-m", "tests.reliability.patched_worker")

SESSIONS = 2
"""Of a worker that answers no queries: its heartbeat and its documents."""


class WorkerProcess:
    """``pgembed worker`` as a process of its own; killed at the end of the block at the latest."""

    def __init__(
        self,
        url: str,
        *arguments: str,
        failpoint: str | None = None,
        command: tuple[str, ...] = COMMAND,
        environment: Mapping[str, str] | None = None,
        limit: tuple[int, int] | None = None,
    ) -> None:
        options = ("worker", "--log", "json", "--no-queries", "--poll", "0.05", *arguments)
        if "--batch" not in arguments:
            options += ("--batch", "16")
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            [sys.executable, *command, *options],
            env={
                **os.environ,
                "PGEMBED_URL": url,
                "PGEMBED_FAILPOINT": failpoint or "",
                **(environment or {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            preexec_fn=limit and (lambda: resource.setrlimit(limit[0], (limit[1], limit[1]))),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill it if it still lives, and forget what it said."""
        self.kill()
        self.log.close()

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self.process.poll() is None

    def kill(self) -> None:
        """Kill it with -9, and wait until it is gone."""
        self.process.kill()
        self.process.wait(30)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def frozen(self) -> bool:
        """Whether it stands still since a SIGSTOP."""
        return self.running and psutil.Process(self.pid).status() == psutil.STATUS_STOPPED

    def output(self) -> str:
        """What it has said until now."""
        return os.pread(self.log.fileno(), 10_000_000, 0).decode(errors="replace")

    def events(self, message: str | None = None) -> list[dict[str, Any]]:
        """The events of its log, all or those of one message."""
        found = []
        for line in self.output().splitlines():
            if line.startswith("{") and line.endswith("}"):
                event = json.loads(line)
                if message in (None, event["message"]):
                    found.append(event)
        return found

    def errors(self) -> list[str]:
        """What it complained of."""
        return [each["message"] for each in self.events() if each["levelname"] == "ERROR"]

    def wait_for(self, message: str, seconds: float = 30, *, count: int = 1) -> None:
        """Wait until it says something for the count-th time."""
        eventually(
            lambda: len(self.events(message)) >= count or not self.running,
            f"the worker says {message!r}: {self.output()[-2000:]}",
            seconds,
        )
        assert len(self.events(message)) >= count, self.output()[-4000:]

    def ended(self, seconds: float = 30) -> int:
        """Wait until it ends by itself, and return its status: the negative signal if killed."""
        return self.process.wait(seconds)

    def ports(self) -> list[int]:
        """Its ends of the connections to the server, by which the server's sessions are found."""
        connections = psutil.Process(self.pid).net_connections(kind="tcp")
        return [each.laddr.port for each in connections if each.status == psutil.CONN_ESTABLISHED]


def backends(connection: Connection, worker: WorkerProcess) -> list[int]:
    """The server's processes that serve a worker which connects without a proxy."""
    rows = connection.execute(
        "select pid from pg_stat_activity where client_port = any (%s)", (worker.ports(),)
    )
    return [pid for (pid,) in rows]


def claimers(connection: Connection, worker: WorkerProcess) -> list[int]:
    """The numbers under which a worker claims."""
    rows = connection.execute(
        "select objid::int from pg_locks where locktype = 'advisory' and classid = 726101"
        " and pid = any (%s)",
        (backends(connection, worker),),
    )
    return [number for (number,) in rows]


def claims(connection: Connection, numbers: list[int]) -> int:
    """How many rows are claimed under these numbers."""
    row = connection.execute(
        "select count(*) from pgembed.stale where claimed_by = any (%s)", (numbers,)
    ).fetchone()
    assert row is not None
    return int(row[0])

"""Which processes belong to a server: judged by what they run, never by a pid alone."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from pathlib import Path

from pgembed.errors import ServerError
from pgembed.server.support import foreign, load_psutil

STOP_STEPS = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0))
"""PostgreSQL's fast and immediate shutdown, with the seconds each is given."""


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A living server process."""

    pid: int
    port: int | None
    """None until the server has written it."""
    ready: bool
    """Whether it accepts connections, by its own word."""


def find_postmaster(data: Path) -> Postmaster | None:
    """Return the server that runs a data directory, or None.

    ``postmaster.pid`` may be left over from a crash, and its pid may be another process by now
    (in containers it often is); the process itself decides.

    Raises:
        ServerError: If the directory belongs to another account.
    """
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise foreign(data) from error
    # PostgreSQL's src/include/utils/pidfile.h: line 1 pid, 4 port, 8 status.
    lines += [""] * (8 - len(lines))
    if not lines[0].isdigit() or not runs_server(int(lines[0]), data):
        return None
    port = int(lines[3]) if lines[3].isdigit() else None
    return Postmaster(int(lines[0]), port, lines[7].strip() == "ready" and port is not None)


def runs_server(pid: int, data: Path) -> bool:
    """Say whether a process lives (a zombie does not) and is PostgreSQL on a data directory."""
    psutil = load_psutil()
    try:
        process = psutil.Process(pid)
        command = process.cmdline()
        zombie = process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
    return not zombie and str(data) in command[1:] and Path(command[0]).name == "postgres"


def find_backends(data: Path) -> list[int]:
    """Return the pids of PostgreSQL processes that work inside a data directory.

    The postmaster enters its data directory and its children stay there, so orphans of a killed
    postmaster are found by their working directory.
    """
    psutil = load_psutil()
    found = psutil.process_iter(["pid", "name", "cwd"], ad_value=None)
    return [p.pid for p in found if p.info["name"] == "postgres" and p.info["cwd"] == str(data)]


def end_backends(data: Path) -> None:
    """Tell the processes of a dead server to quit at once, as its postmaster would have.

    Their transactions end as in a crash: what was committed stays, the rest is undone.
    """
    psutil = load_psutil()
    for pid in find_backends(data):
        try:
            psutil.Process(pid).send_signal(signal.SIGQUIT)
        except psutil.NoSuchProcess:
            continue


def stop_postmaster(postmaster: Postmaster, data: Path) -> None:
    """Stop a server and wait until it is gone: politely first, at once if that takes too long.

    Raises:
        ServerError: If it survives both.
    """
    psutil = load_psutil()
    for number, patience in STOP_STEPS:
        try:
            psutil.Process(postmaster.pid).send_signal(number)
        except psutil.NoSuchProcess:
            return
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if not runs_server(postmaster.pid, data):
                return
            time.sleep(0.01)
    raise ServerError(
        f'the server of "{data}", process {postmaster.pid}, does not stop',
        hint=f"see what keeps it; kill -KILL {postmaster.pid} loses no committed row",
    )

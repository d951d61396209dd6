"""Bring a home's server up: join it if it runs, wait for the remains of a dead one, start it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from pgembed.errors import ServerError
from pgembed.server import cluster, locks, processes
from pgembed.server.binaries import binaries_for
from pgembed.server.home import Home
from pgembed.server.identity import require_reachable, service_account
from pgembed.server.processes import Postmaster

ORPHAN_SECONDS = 5.0
"""How long the backends of a killed server may finish before they are told to quit."""


def ensure_running(home: Home, settings: Mapping[str, str]) -> Postmaster:
    """Return the server of a home, started if need be; the caller holds the start lock."""
    lock = locks.open_lock(home.server_lock)
    try:
        running = _wait_for_server_or_lock(home, lock)
        if running is None:
            home.keep_mark.unlink(missing_ok=True)
            _boot(home, settings, lock)
            running = processes.find_postmaster(home.data)
    finally:
        os.close(lock)
    if running is None:
        raise ServerError(f'the server of "{home.data}" ended at once', hint=f'see "{home.log}"')
    return running


def _wait_for_server_or_lock(home: Home, lock: int) -> Postmaster | None:
    """Wait until a server is ready, or until nothing of an earlier one is left.

    The lock is held by a server, by backends that outlived it, and by a killed starter's initdb
    or pg_ctl: only when all are gone may another server touch the files.

    Returns:
        The ready server; None if the lock is now the caller's.

    Raises:
        ServerError: If neither happens in time; names the processes.
    """
    began = time.monotonic()
    while True:
        running = processes.find_postmaster(home.data)
        if running is not None and running.ready:
            return running
        if running is None and locks.try_exclusive(lock):
            return None
        waited = time.monotonic() - began
        if waited > cluster.START_SECONDS:
            pids = ", ".join(map(str, processes.find_backends(home.data))) or "unknown"
            raise ServerError(
                f'an earlier server of "{home.data}" neither starts nor ends (processes: {pids})',
                hint=f'see "{home.log}", end these processes, then try again',
            )
        if running is None and waited > ORPHAN_SECONDS:
            processes.end_backends(home.data)
        time.sleep(0.02)


def _boot(home: Home, settings: Mapping[str, str], lock: int) -> None:
    """Make the cluster if there is none, and start PostgreSQL on it."""
    account = service_account()
    require_reachable(account, home.path)
    programs = cluster.Programs(binaries_for(account, home), account, home, lock)
    if not home.data.exists():
        cluster.create_cluster(programs, sync=settings.get("fsync", "on") != "off")
    cluster.check_version(home.data)
    # We hold the lock, so this is a dead server's. PostgreSQL itself would refuse to start if the
    # pid in it were an unreaped zombie's or had gone to another process of the same account.
    (home.data / "postmaster.pid").unlink(missing_ok=True)
    cluster.launch(programs, settings)

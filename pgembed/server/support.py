"""What the embedded server needs from the platform and from optional packages."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from pgembed.errors import ServerError

INSTALL_HINT = "pip install 'pgembed-router[server]'"


def require_posix(system: str = os.name) -> None:
    """Refuse a platform without POSIX file locks and signals.

    Args:
        system: What ``os.name`` says of the platform.

    Raises:
        ServerError: On Windows.
    """
    if system != "posix":
        raise ServerError(
            f'the embedded server runs on Linux and macOS, not on "{system}"',
            hint="use WSL, a container, or the URL of any PostgreSQL server with pgvector",
        )


def load_psutil() -> Any:
    """Import psutil late: only those who use the embedded server need it.

    Raises:
        ServerError: If psutil is not installed.
    """
    try:
        return import_module("psutil")
    except ImportError as error:
        raise ServerError(
            "the embedded server needs the package psutil, which is not installed",
            hint=INSTALL_HINT,
        ) from error


def foreign(path: Path) -> ServerError:
    """Return the error for a server's file that this process may not read or write."""
    return ServerError(
        f'cannot use "{path}": it belongs to another account',
        hint="run as the account that made the server's directory, or choose another directory",
    )

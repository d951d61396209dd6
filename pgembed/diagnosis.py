"""What is well and what is not in a database: the checks of SQL, and those of a client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pgembed.database import Connection, rows_of, translated
from pgembed.schema import current_revision, head_revision

Verdict = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    detail: str
    remedy: str | None = None
    """What to do; None where nothing is."""


def diagnose(connection: Connection) -> list[Check]:
    """Every check, the schema's revision first; without a schema that fits, that one alone.

    Args:
        connection: the caller's, as the owner of schema ``pgembed``.
    """
    schema = _schema(connection)
    if schema.verdict == "failed":
        return [schema]
    with translated():
        rows = rows_of(connection, "select name, verdict, detail, remedy from pgembed.doctor()")
    return [schema, *(Check(*row) for row in rows)]


def _schema(connection: Connection) -> Check:
    installed, newest = current_revision(connection), head_revision()
    if installed == newest:
        return Check("schema", "ok", f"revision {installed}, as this package has it")
    return Check(
        "schema",
        "failed",
        f"revision {installed or 'none'}; this package has {newest}",
        "Install or upgrade it: pgembed migrate; where the database is newer, upgrade the package.",
    )

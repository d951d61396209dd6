"""Connections, the translation of the database's errors into ours, and key-value helpers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.abc import Params, QueryNoTemplate
from psycopg.rows import tuple_row

from pgembed.errors import (
    FilterError,
    FingerprintError,
    InputError,
    NotFoundError,
    PgembedError,
    SchemaError,
    SourceError,
    WorkerError,
)

Connection = psycopg.Connection[Any]

ERRORS: dict[str, type[PgembedError]] = {
    "PGE01": NotFoundError,
    "PGE02": FilterError,
    "PGE03": InputError,
    "PGE04": FingerprintError,
    "PGE05": SourceError,
    "PGE06": WorkerError,
    "22P05": InputError,  # \u0000 within jsonb
}
"""Which error each SQLSTATE becomes: ours, and those of texts that PostgreSQL cannot hold."""


def database_url(given: str | None = None) -> str:
    """The connection string to use: the given one, ``$PGEMBED_URL``, or libpq's own variables."""
    return given or os.environ.get("PGEMBED_URL", "")


def connect(url: str | None = None) -> Connection:
    """Open a connection that is fit for searching.

    It is in autocommit mode and never prepares statements: a generic plan does not see a filter's
    values, and ran 158 times slower on a skewed column.

    Raises:
        PgembedError: the server cannot be reached, with libpq's reason.
    """
    try:
        return psycopg.connect(
            database_url(url), autocommit=True, prepare_threshold=None, application_name="pgembed"
        )
    except psycopg.Error as error:
        raise PgembedError(
            f"cannot connect to PostgreSQL: {str(error).strip()}",
            hint="Give a URL (--url or PGEMBED_URL), or start a server: pgembed server start",
        ) from error


def rows_of(
    connection: Connection,
    statement: QueryNoTemplate,
    parameters: Params | None = None,
    *,
    binary: bool = False,
) -> list[tuple[Any, ...]]:
    """The rows of a query as tuples; ``binary`` reads times under any DateStyle.

    Callers give their connection row factories and cursor classes to suit rows of their own; they
    do not count here.
    """
    with psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
        return cursor.execute(statement, parameters, binary=binary).fetchall()


@contextmanager
def translated() -> Iterator[None]:
    """Raise the errors of our SQLSTATEs, and a missing schema, as our own exceptions."""
    try:
        yield
    except (
        psycopg.errors.UndefinedFunction,
        psycopg.errors.UndefinedTable,
        psycopg.errors.InvalidSchemaName,
    ) as error:
        if "pgembed" not in str(error):
            raise
        raise SchemaError(
            f"this database has no such part of pgembed: {error.diag.message_primary}",
            hint="Install or upgrade it: pgembed migrate",
        ) from error
    except UnicodeEncodeError as error:
        raise InputError(
            f"a text holds a lone surrogate at character {error.start}",
            hint='Remove it: text.encode(errors="ignore").decode()',
        ) from error
    except psycopg.Error as error:
        if error.sqlstate is None and isinstance(error, psycopg.DataError):
            raise InputError(str(error)) from error
        ours = ERRORS.get(error.sqlstate or "")
        if ours is None:
            raise
        raise ours(str(error.diag.message_primary), hint=error.diag.message_hint) from error

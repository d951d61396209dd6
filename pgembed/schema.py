"""Install, upgrade and check pgembed's own schema in a database."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from pgembed import resources
from pgembed.database import connect, database_url
from pgembed.errors import SchemaError
from pgembed.loopback import drop_loopback_role, loopback_role

if TYPE_CHECKING:
    from alembic.config import Config

EXTENSION_SCHEMA = "extension_schema"
"""Key of Alembic's config attributes: the schema that pgvector is installed in."""

MINIMUM_PGVECTOR = (0, 8, 0)
"""First version with iterative scans and a usable cost model for filters."""

ADVISED_PGVECTOR = (0, 8, 4)
"""Index bugs of earlier ones: CVE-2026-3172 (until 0.8.2), vacuum (0.8.3), repair (0.8.4)."""

_one_at_a_time = threading.Lock()
"""Alembic keeps the context of a run in globals: two threads would wait for each other for ever."""

MIGRATION_LOCK = 7_261_000_001
"""Advisory lock that makes two migrations of one database wait for each other."""


@dataclass(frozen=True, slots=True)
class Migration:
    """What a migration did: the revision before and after, None when nothing is installed."""

    before: str | None
    after: str | None
    advice: str | None = None


def prepare_statements(extension_schema: str) -> list[str]:
    """Statements that open a migration: one at a time, whatever the caller's search path is.

    The functions of sql/ pin the search path that is set here, so they find pgvector's types and
    operators in whatever schema it was installed.
    """
    path = sql.SQL("set local search_path to pg_catalog, {}, pg_temp").format(
        sql.Identifier(extension_schema)
    )
    return [
        f"select pg_catalog.pg_advisory_xact_lock({MIGRATION_LOCK})",
        path.as_string(None),
        "create schema if not exists pgembed",
        # Settings of the extension exist only once its library is loaded.
        "select '[1]'::vector",
    ]


def migrate(url: str, *, revision: str = "head") -> Migration:
    """Bring the database at ``url`` to a revision, in one transaction.

    Args:
        url: a connection string of libpq; its user becomes the owner of schema ``pgembed``.
        revision: ``head``, a revision, or ``base`` to remove everything that pgembed made.

    Raises:
        SchemaError: pgvector is missing or too old, or the server's privileges do not allow it.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    url = database_url(url)
    with connect(url) as connection:
        schema, version = _extension(connection)
        before = current_revision(connection)
        _check_known(before)
        loopback = loopback_role(connection) if revision == "base" else None
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool
    )
    config = _config()
    try:
        with _one_at_a_time, engine.connect() as alchemy:
            config.attributes.update({"connection": alchemy, EXTENSION_SCHEMA: schema})
            _run(config, revision)
            if revision == "base":
                alchemy.exec_driver_sql("drop schema if exists pgembed cascade")
            alchemy.commit()
    except Exception as error:
        _raise_clear(error)
        raise
    with connect(url) as connection:
        after = current_revision(connection)
        left = drop_loopback_role(connection, loopback) if loopback else None
    return Migration(before, after, left or _advice(version))


def migration_sql(*, extension_schema: str = "public") -> str:
    """The statements of a first installation, for a DBA to read and run in psql."""
    output = io.StringIO()
    config = _config(output)
    config.attributes[EXTENSION_SCHEMA] = extension_schema
    _run(config, "head", as_sql=True)
    return output.getvalue()


def current_revision(connection: psycopg.Connection[Any]) -> str | None:
    """Revision of the schema in this database, None when pgembed is not installed."""
    if connection.execute("select to_regclass('pgembed.alembic_version')").fetchone() == (None,):
        return None
    row = connection.execute("select version_num from pgembed.alembic_version").fetchone()
    return None if row is None else str(row[0])


def head_revision() -> str:
    """Newest revision that this package knows."""
    from alembic.script import ScriptDirectory

    return str(ScriptDirectory(str(resources.migrations())).get_current_head())


def _config(output: io.StringIO | None = None) -> Config:
    from alembic.config import Config

    config = Config(output_buffer=output) if output else Config()
    config.set_main_option("script_location", str(resources.migrations()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _run(config: Config, revision: str, *, as_sql: bool = False) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory

    if revision == "base":
        command.downgrade(config, "base", sql=as_sql)
        return
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision != "head" and revision not in known:
        raise SchemaError(
            f"there is no revision {revision!r}",
            hint=f"Known: head, base, {', '.join(sorted(known))}.",
        )
    command.upgrade(config, revision, sql=as_sql)


def _check_known(installed: str | None) -> None:
    from alembic.script import ScriptDirectory

    directory = ScriptDirectory(str(resources.migrations()))
    known = {script.revision for script in directory.walk_revisions()}
    if installed is not None and installed not in known:
        raise SchemaError(
            f"this database is at revision {installed!r}, which this version of pgembed does not"
            f" know; its newest is {head_revision()!r}",
            hint="A newer pgembed migrated it: upgrade this one (pip install -U pgembed-router).",
        )


def _extension(connection: psycopg.Connection[Any]) -> tuple[str, tuple[int, ...]]:
    """Schema and version of pgvector, created first where the server allows it."""
    found = _installed(connection)
    if found is None:
        _create_extension(connection)
        found = _installed(connection)
        assert found is not None
    schema, version = found[0], tuple(int(part) for part in found[1].split("."))
    if version < MINIMUM_PGVECTOR:
        raise SchemaError(
            f"pgvector {found[1]} is too old: pgembed needs 0.8.0 or newer",
            hint="Install a newer pgvector, then run: alter extension vector update;",
        )
    return schema, version


def _installed(connection: psycopg.Connection[Any]) -> tuple[str, str] | None:
    return connection.execute(
        "select n.nspname, e.extversion from pg_catalog.pg_extension as e"
        " join pg_catalog.pg_namespace as n on n.oid = e.extnamespace where e.extname = 'vector'"
    ).fetchone()


def _create_extension(connection: psycopg.Connection[Any]) -> None:
    statement = "create extension vector"
    available = "select from pg_catalog.pg_available_extensions where name = 'vector'"
    if connection.execute(available).fetchone() is None:
        raise SchemaError(
            "this server has no pgvector",
            hint="Install it on the server (https://github.com/pgvector/pgvector), or start the"
            " embedded server: pgembed server start",
        )
    try:
        connection.execute(statement)
    except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        return  # another migration created it meanwhile
    except psycopg.errors.InsufficientPrivilege as error:
        user, database = connection.info.user, connection.info.dbname
        raise SchemaError(
            f"user {user!r} may not create extension vector in database {database!r}",
            hint=f"Ask a superuser to run there: {statement};",
        ) from error


def _advice(version: tuple[int, ...]) -> str | None:
    if version >= ADVISED_PGVECTOR:
        return None
    return (
        f"pgvector {'.'.join(map(str, version))} has known index bugs;"
        " update to 0.8.4 or newer: alter extension vector update;"
    )


def _raise_clear(error: BaseException) -> None:
    """Turn a refusal by the server into our own error, with the statement that would help."""
    cause = getattr(error, "orig", error)
    if isinstance(cause, psycopg.errors.InsufficientPrivilege):
        message = str(cause.diag.message_primary)
        raise SchemaError(
            f"the server refused the migration: {message}",
            hint="The user must own schema pgembed, or: grant create on database <name> to <user>;",
        ) from error

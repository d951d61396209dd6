"""Set up how a session reaches its own database a second time, to hand query texts to a worker."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from pgembed.database import Connection, connect, database_url, rows_of, translated
from pgembed.errors import SchemaError

CREATE_EXTENSION = (
    "create schema if not exists pgembed_dblink;"
    " create extension if not exists dblink schema pgembed_dblink;"
    " revoke all on all functions in schema pgembed_dblink from public; do $$ begin execute"
    " format('grant usage on schema pgembed_dblink to %1$s; grant execute on all functions in"
    " schema pgembed_dblink to %1$s', (select nspowner::regrole from pg_namespace where nspname ="
    " 'pgembed')); end $$"
)
"""In a schema that only the owner of schema ``pgembed`` uses: whoever may run dblink in a session
runs statements of his own over its second connection, and sees what others hand in there."""

SET_UP = """\
-- Once for a database, as a superuser or a role with createrole that owns schema pgembed.
{create};
-- The host, or several with commas between them, that this server reaches itself by; and its port.
select pgembed.set_loopback({host}, {port});
-- Null where it works, else the reason why not.
select pgembed.check_loopback();
"""


@dataclass(frozen=True, slots=True)
class Loopback:
    """What the sessions of a database connect to it with a second time."""

    role: str
    """It may hand in texts and fetch answers, and nothing more."""
    host: str
    port: int | None
    """None stands for the port of the server at the time."""


def set_up_loopback(url: str, *, host: str | None = None, port: int | None = None) -> Loopback:
    """Make query texts work from SQL; again gives the role a new password.

    Args:
        url: a connection string of the owner of schema ``pgembed``, who needs ``createrole``, or
            of a superuser.
        host: how the server reaches itself, or several hosts with commas between them; None tries
            127.0.0.1, the address that this client reached, and the socket directories.
        port: of the host; None takes the server's own.

    Raises:
        SchemaError: the extension, a right or a host that works is missing; the hint says which.
    """
    with connect(database_url(url)) as connection, translated():
        _create_extension(connection)
        tried: list[str] = []
        for candidate in [host] if host else _candidates(connection):
            role = _set(connection, candidate, port)
            ((problem,),) = rows_of(connection, "select pgembed.check_loopback()")
            if problem is None:
                return Loopback(role, candidate, port)
            tried.append(f"{candidate}: {problem}")
        connection.execute("delete from pgembed.loopback")
    raise SchemaError(
        "the database cannot reach itself by " + "; nor by ".join(tried),
        hint="Name a host that the server reaches itself by and where it asks for a password"
        " (scram-sha-256 in pg_hba.conf): pgembed migrate --sql-encode --loopback-host db.internal",
    )


def loopback_sql(*, host: str | None = None, port: int | None = None) -> str:
    """The statements of a set-up, for a DBA to read and run in psql."""
    return (
        sql.SQL(SET_UP)
        .format(
            create=sql.SQL(CREATE_EXTENSION),
            host=sql.Literal(host or "127.0.0.1"),
            port=sql.Literal(port),
        )
        .as_string(None)
    )


def loopback_role(connection: Connection) -> str | None:
    """Name of the role that was set up for this database, None where there is none."""
    statement = (
        "select rolname::text from pg_catalog.pg_roles where rolname = pgembed.loopback_role()"
    )
    try:
        found = rows_of(connection, statement)
    except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName):
        return None
    return str(found[0][0]) if found else None


def drop_loopback_role(connection: Connection, role: str) -> str | None:
    """Remove the role; where that is not allowed, a sentence that says so."""
    names = {"role": sql.Identifier(role), "database": sql.Identifier(connection.info.dbname)}
    try:
        with connection.transaction():
            connection.execute(
                sql.SQL("revoke all on database {database} from {role}").format(**names)
            )
            connection.execute(sql.SQL("drop role {role}").format(**names))
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0]
        return f"role {role} of the text queries is left, because: {reason}"
    return None


def _set(connection: Connection, host: str, port: int | None) -> str:
    try:
        ((role,),) = rows_of(connection, "select pgembed.set_loopback(%s, %s::int)", (host, port))
    except psycopg.errors.InsufficientPrivilege as error:
        raise SchemaError(
            f"user {connection.info.user!r} may not set up text queries:"
            f" {error.diag.message_primary}",
            hint="Use the owner of schema pgembed, with createrole; or let a superuser run what"
            " this prints: pgembed migrate --sql-encode --sql",
        ) from error
    return str(role)


def _create_extension(connection: Connection) -> None:
    """Create dblink where it is missing."""
    if rows_of(connection, "select from pg_catalog.pg_extension where extname = 'dblink'"):
        return
    try:
        connection.execute(CREATE_EXTENSION)
    except psycopg.errors.InsufficientPrivilege as error:
        raise SchemaError(
            f"user {connection.info.user!r} may not create extension dblink",
            hint=f"Ask a superuser to run in database {connection.info.dbname!r}:"
            f" {CREATE_EXTENSION};",
        ) from error
    except psycopg.errors.FeatureNotSupported as error:
        raise SchemaError(
            "this server has no extension dblink",
            hint="Install PostgreSQL's contrib modules; without them sessions may"
            " call pgembed.prepare_query before they search.",
        ) from error


def _candidates(connection: Connection) -> list[str]:
    """Hosts by which the server may reach itself, the likely ones first."""
    ((address, directories),) = rows_of(
        connection,
        "select host(inet_server_addr()), (select setting from pg_catalog.pg_settings"
        " where name = 'unix_socket_directories')",
    )
    sockets = [each.strip() for each in (directories or "").split(",")]
    return list(dict.fromkeys(each for each in ("127.0.0.1", address, *sockets) if each))

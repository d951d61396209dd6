"""The demo's two source tables: created where they are missing, and brought up to date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, fields
from typing import LiteralString

from psycopg import sql

from pgembed.database import Connection
from pgembed.demo.corpus_postgres import PostgresEntry
from pgembed.demo.corpus_python import PythonEntry

PYTHON_TABLE = """
create table if not exists demo.python_doc (
  id integer primary key,
  module text not null,
  name text not null,
  kind text not null,
  signature text not null,
  python text not null,
  deprecated boolean not null,
  doc text not null,
  summary text not null,
  content text not null
)
"""

POSTGRES_TABLE = """
create table if not exists demo.postgres_doc (
  id bigint primary key,
  schema text not null,
  name text not null,
  kind text not null,
  argument_types text[] not null,
  argument_count integer not null,
  result_type text,
  strict boolean,
  volatility text,
  returns_set boolean,
  category text,
  description text not null,
  summary text not null,
  content text not null
)
"""

REMOVE = sql.SQL("""
delete from {table} as present
where not exists (select from pg_temp.incoming where incoming.id = present.id)
""")

WRITE = sql.SQL("""
insert into {table} as present ({columns})
select {columns} from pg_temp.incoming
on conflict (id) do update set ({columns}) = row({excluded})
where ({present}) is distinct from ({excluded})
""")


def load_python(connection: Connection, entries: Sequence[PythonEntry]) -> int:
    """Makes ``demo.python_doc`` hold exactly these entries; see ``load_postgres``."""
    with connection.transaction():
        _create(connection, PYTHON_TABLE)
        connection.execute(
            "comment on table demo.python_doc is "
            "'Classes, functions and methods of Python''s standard library, as documented.'"
        )
        return _bring_up_to_date(connection, "python_doc", PythonEntry, entries)


def load_postgres(connection: Connection, entries: Sequence[PostgresEntry]) -> int:
    """Makes ``demo.postgres_doc`` hold exactly these entries, in the caller's transaction if any.

    A row that is already as it should be is not written, so a second load leaves nothing stale.

    Returns:
        How many rows were added, changed or removed.
    """
    with connection.transaction():
        _create(connection, POSTGRES_TABLE)
        connection.execute(
            "comment on table demo.postgres_doc is "
            "'Functions, types and settings of this PostgreSQL, as its catalog says.'"
        )
        return _bring_up_to_date(connection, "postgres_doc", PostgresEntry, entries)


def _create(connection: Connection, table: LiteralString) -> None:
    """The schema and a table in it, where they are missing."""
    connection.execute("create schema if not exists demo")
    connection.execute("comment on schema demo is 'What pgembed demo searches; may be dropped.'")
    connection.execute(table)


def _bring_up_to_date(
    connection: Connection,
    table: str,
    entry: type[PythonEntry] | type[PostgresEntry],
    entries: Sequence[PythonEntry] | Sequence[PostgresEntry],
) -> int:
    """Copies the entries beside the table, and then writes only what differs."""
    columns = [field.name for field in fields(entry)]
    names = {
        "table": sql.Identifier("demo", table),
        "columns": sql.SQL(", ").join(map(sql.Identifier, columns)),
        "present": sql.SQL(", ").join(sql.Identifier("present", name) for name in columns),
        "excluded": sql.SQL(", ").join(sql.Identifier("excluded", name) for name in columns),
    }
    connection.execute(sql.SQL("create temporary table incoming (like {table})").format(**names))
    copying = sql.SQL("copy pg_temp.incoming ({columns}) from stdin").format(**names)
    with connection.cursor() as cursor, cursor.copy(copying) as copy:
        for row in entries:
            copy.write_row([list(v) if isinstance(v, tuple) else v for v in astuple(row)])
    removed = connection.execute(REMOVE.format(**names)).rowcount
    written = connection.execute(WRITE.format(**names)).rowcount
    connection.execute("drop table pg_temp.incoming")
    return removed + written

"""Databases that several tests share: a test leaves them as it found them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgembed.collections import drop_collection, list_collections
from pgembed.database import Connection, connect


@contextmanager
def copied_database(server: str, template: str, name: str) -> Iterator[str]:
    """The URL of a copy of a database, which is dropped at the end."""
    names = {"name": sql.Identifier(name), "template": sql.Identifier(template)}
    drop = sql.SQL("drop database if exists {name} with (force)").format(**names)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(drop)
        connection.execute(
            sql.SQL("create database {name} template {template} strategy file_copy").format(**names)
        )
        try:
            yield make_conninfo(**{**conninfo_to_dict(server), "dbname": name})
        finally:
            connection.execute(drop)


def url_of(connection: Connection) -> str:
    """How to connect to the same database again."""
    return make_conninfo(connection.info.dsn, password=connection.info.password)


@contextmanager
def cleared(url: str) -> Iterator[Connection]:
    """A connection; its collections, tables, experts and routers are gone at the end."""
    with connect(url) as connection:
        yield connection
    with connect(url) as connection:
        for each in list_collections(connection):
            drop_collection(connection, each.name)
        tables = connection.execute("select tablename from pg_tables where schemaname = 'public'")
        for (table,) in tables.fetchall():
            connection.execute(sql.SQL("drop table {} cascade").format(sql.Identifier(table)))
        connection.execute("delete from pgembed.expert where kind <> 'base'")
        connection.execute("delete from pgembed.router")
        connection.execute("delete from pgembed.query_cache")
        connection.execute("delete from pgembed.encoder where name <> 'tiny'")

"""Databases for these tests: with tables that an index pays for, and one that takes query texts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import psycopg
import pytest
from psycopg import sql

from pgembed.database import Connection, connect
from pgembed.loopback import set_up_loopback
from tests.conftest import make_papers
from tests.databases import copied_database
from tests.sql.support import as_literal, create_collection, register_plain_encoder
from tests.sql.texts import Worker, working

ROWS, DIMENSIONS, CLUSTERS = 4_000, 8, 8


@pytest.fixture(scope="session")
def points_url(shared_url: str) -> str:
    """The shared database, with ``points`` and ``books``: vectors in eight clusters, HNSW indexes."""
    random = np.random.default_rng(7)
    vectors = np.eye(DIMENSIONS)[np.arange(ROWS) % CLUSTERS]
    vectors = vectors + 0.25 * random.standard_normal((ROWS, DIMENSIONS))
    with connect(shared_url) as connection:
        register_plain_encoder(connection, "plain8", DIMENSIONS)
        make_points(connection, vectors)
        make_books(connection, vectors)
    return shared_url


def make_points(connection: Connection, vectors: np.ndarray) -> None:
    """One chunk a row; ``cluster`` tells the direction of the vector, ``tag`` is null for some."""
    connection.execute(
        "create table points as select n as id, (n - 1) % 8 as cluster, n % 2 = 0 as parity,"
        " case when n % 5 > 0 then (array['x', 'y', 'z'])[1 + n % 3] end as tag,"
        f" 'point ' || n as body from generate_series(1, {ROWS}) as n"
    )
    connection.execute("alter table points add primary key (id)")
    create_collection(connection, "points", "points", ["body"], encoder="plain8")
    write_vectors(connection, "points", vectors)


def make_books(connection: Connection, vectors: np.ndarray) -> None:
    """Books of about nine chunks; all 500 of the first cluster are in three long ones."""
    connection.execute("create table books (id int primary key, cluster int, body text)")
    connection.execute(
        "insert into books select n, n % 8, 'book' from generate_series(1, 400) as n"
    )
    create_collection(connection, "books", "books", ["body"], encoder="plain8")
    write_vectors(connection, "books", vectors)


def write_vectors(connection: Connection, collection: str, vectors: np.ndarray) -> None:
    """Fill a side table directly, as a bulk loader would, and build its index."""
    with connection.cursor() as cursor:
        cursor.execute("create temporary table loaded (n int primary key, embedding vector)")
        with cursor.copy("copy loaded from stdin") as copy:
            for number, vector in enumerate(vectors, start=1):
                copy.write_row((number, as_literal(vector)))
    chunks = {
        "points": "select n, 0, n from loaded",
        "books": "select case when n % 8 = 1 then 1 + n % 3 else 4 + n % 397 end, n, n from loaded",
    }[collection]
    connection.execute(
        f"insert into pgembed_data.{collection} (id, chunk_no, content, span, content_hash, embedding)"
        f" select c.id, c.chunk_no, 'chunk ' || c.n, '[0,1)', sha256(c.n::text::bytea), l.embedding"
        f" from ({chunks}) as c (id, chunk_no, n) join loaded as l on l.n = c.n"
    )
    connection.execute("drop table loaded")
    connection.execute("delete from pgembed.stale where collection = %s", (collection,))
    connection.execute("select pgembed.build_index(%s)", (collection,))
    connection.execute(f"analyze {collection}")


@pytest.fixture
def points(points_url: str, shared: Connection) -> Connection:
    """A connection whose work is rolled back, to a database with collections that have indexes."""
    return shared


@pytest.fixture(scope="session")
def texts_url(database_url: str, template: str) -> Iterator[str]:
    """A database with ``papers`` that is set up for query texts."""
    with copied_database(database_url, template, "pgembed_test_texts") as url:
        with connect(url) as connection:
            make_papers(connection)
        role = set_up_loopback(url).role
        yield url
    with psycopg.connect(database_url, autocommit=True) as server:
        server.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


@pytest.fixture
def texts(texts_url: str) -> Iterator[Connection]:
    """A session that asks for texts; requests and cache are empty afterwards."""
    with connect(texts_url) as connection:
        yield connection
    with connect(texts_url) as connection:
        connection.execute("truncate pgembed.encode_request, pgembed.encode_cache")


@pytest.fixture
def worker(texts_url: str) -> Iterator[Worker]:
    """A worker that answers as the encoder does."""
    with working(texts_url) as started:
        yield started

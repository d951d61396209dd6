"""A table large enough for the HNSW index to be used, for the tests of search and planning."""

from __future__ import annotations

import numpy as np
import pytest

from pgembed.database import Connection, connect
from tests.sql.support import as_literal, create_collection, register_plain_encoder

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

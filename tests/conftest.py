"""A real PostgreSQL for every test: a migrated template, and a database of its own per test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgembed.database import Connection, connect
from pgembed.loopback import set_up_loopback
from pgembed.registry import register_encoder
from pgembed.schema import migrate
from pgembed.syncing import sync
from tests.databases import copied_database
from tests.encoders.tiny import make_tiny_encoder
from tests.sql.texts import Worker, working

# Machines may be slow: a timing decides no test.
hypothesis.settings.register_profile("pgembed", deadline=None)
hypothesis.settings.load_profile("pgembed")

TEMPLATE = f"pgembed_test_template_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    return make_conninfo(**{**conninfo_to_dict(url), "dbname": name})


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    """``PGEMBED_TEST_URL``, a container where PGEMBED_TEST_DOCKER asks for one, or the embedded server."""
    given = os.environ.get("PGEMBED_TEST_URL")
    if given:
        yield given
    elif os.environ.get("PGEMBED_TEST_DOCKER"):
        yield from container()
    else:
        yield from embedded()


def embedded() -> Iterator[str]:
    """A throw-away embedded server that may lose everything in a power cut, and is fast for it."""
    from pgembed.server import EmbeddedServer

    home = Path(tempfile.mkdtemp(prefix="pgembed-test-"))
    home.chmod(0o755)  # as root the server runs under another account
    careless = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    try:
        with EmbeddedServer(home, settings=careless) as server:
            yield server.url
    finally:
        shutil.rmtree(home, ignore_errors=True)


def container() -> Iterator[str]:
    """PostgreSQL with pgvector in Docker; skips where no Docker engine answers."""
    from docker.errors import DockerException
    from testcontainers.community.postgres import PostgresContainer

    image = os.environ.get("PGEMBED_TEST_IMAGE", "pgvector/pgvector:pg17")
    try:
        started = PostgresContainer(image, driver=None).start()
    except DockerException as error:
        pytest.skip(f"no Docker engine: {error}")
    try:
        yield started.get_connection_url()
    finally:
        started.stop()


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real ONNX encoder of 32 dimensions that loads in milliseconds."""
    return make_tiny_encoder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def template(database_url: str, tiny_directory: Path) -> Iterator[str]:
    """Name of a migrated database, with encoder ``tiny``, that others are copied from."""
    with psycopg.connect(database_url, autocommit=True) as server:
        server.execute(sql.SQL("drop database if exists {}").format(sql.Identifier(TEMPLATE)))
        server.execute(sql.SQL("create database {}").format(sql.Identifier(TEMPLATE)))
        url = with_database(database_url, TEMPLATE)
        migrate(url)
        with connect(url) as connection:
            register_encoder(connection, str(tiny_directory), name="tiny")
        yield TEMPLATE
        server.execute(sql.SQL("drop database if exists {}").format(sql.Identifier(TEMPLATE)))


@pytest.fixture
def migrated_url(database_url: str, template: str) -> Iterator[str]:
    """A migrated database of this test's own: what it commits, nobody else sees."""
    name = f"pgembed_test_{os.getpid()}"
    with psycopg.connect(database_url, autocommit=True) as server:
        server.execute(
            sql.SQL("create database {} template {} strategy file_copy").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        yield with_database(database_url, name)
        server.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def connection(migrated_url: str) -> Iterator[Connection]:
    """A connection of the kind that users search with."""
    with connect(migrated_url) as opened:
        yield opened


@pytest.fixture
def papers(connection: Connection) -> Connection:
    """Table ``papers`` with 60 rows, and its collection of the same name, embedded."""
    make_papers(connection)
    return connection


@pytest.fixture(scope="session")
def shared_url(database_url: str, template: str) -> Iterator[str]:
    """A database with ``papers`` for all tests that leave it as it was."""
    name = f"pgembed_test_shared_{os.getpid()}"
    with psycopg.connect(database_url, autocommit=True) as server:
        server.execute(
            sql.SQL("create database {} template {} strategy file_copy").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        url = with_database(database_url, name)
        with connect(url) as connection:
            make_papers(connection)
        yield url
        server.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def shared(shared_url: str) -> Iterator[Connection]:
    """A connection to the shared database, in a transaction that is rolled back after the test."""
    opened = psycopg.connect(shared_url, prepare_threshold=None)
    try:
        yield opened
    finally:
        opened.rollback()
        opened.close()


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


def make_papers(connection: Connection) -> None:
    """Make table and collection ``papers``, and embed it."""
    connection.execute(
        "create table papers (id bigint primary key, title text not null, abstract text,"
        " year int, topic text, active boolean, price numeric(8, 2), added date)"
    )
    connection.execute(
        "insert into papers select n, (array['red apple', 'green pear', 'fast car', 'slow train',"
        " 'deep ocean', 'high mountain'])[1 + n % 6] || ' number ' || n,"
        " case when n % 7 = 0 then null else 'about ' || (array['fruit', 'traffic', 'nature'])[1 + n % 3]"
        " || ' in chapter ' || n end, 2000 + n % 20, (array['a', 'b', 'c'])[1 + n % 3], n % 2 = 0,"
        " n * 1.25, date '2020-01-01' + n from generate_series(1, 60) as n"
    )
    connection.execute(
        "select pgembed.create_collection('papers', source => 'papers',"
        " content => '{title,abstract}', encoder => 'tiny')"
    )
    sync(connection, "papers")

"""Setting up query texts from SQL: the role, the extension, the host, and taking it down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from typer.testing import CliRunner

from pgembed.cli.app import app
from pgembed.database import connect
from pgembed.errors import SchemaError
from pgembed.loopback import Loopback, loopback_sql, set_up_loopback
from pgembed.registry import register_encoder
from pgembed.schema import migrate
from tests.conftest import make_papers, with_database
from tests.databases import copied_database
from tests.sql.support import scalar
from tests.sql.texts import working

OWNER = "pgembed_test_loopback_owner"


@contextmanager
def without_roles(server: str, *roles: str) -> Iterator[None]:
    """These roles are gone afterwards."""
    try:
        yield
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            for role in roles:
                name = sql.Identifier(role)
                connection.execute(sql.SQL("drop role if exists {}").format(name))


@pytest.fixture
def url(database_url: str, template: str) -> Iterator[str]:
    """A migrated database that is not set up for texts."""
    name = "pgembed_test_loop"
    with (
        without_roles(database_url, f"pgembed_loopback_{name}"),
        copied_database(database_url, template, name) as copied,
    ):
        yield copied


@pytest.fixture
def owned_url(database_url: str) -> Iterator[str]:
    """A database whose schema belongs to a role without any special right but createrole."""
    name = "pgembed_test_loop_owned"
    with (
        without_roles(database_url, f"pgembed_loopback_{name}", OWNER),
        copied_database(database_url, "template1", name) as copied,
    ):
        with connect(copied) as connection:
            connection.execute(f"create role {OWNER} login createrole password 'secret'")
            connection.execute(f"grant create on database {name} to {OWNER}")
            connection.execute("create schema extensions")
            connection.execute("create extension vector schema extensions")
            connection.execute(f"grant usage on schema extensions to {OWNER}")
        yield as_owner(copied)


def as_owner(url: str) -> str:
    """The same database as its schema's owner."""
    return make_conninfo(**{**conninfo_to_dict(url), "user": OWNER, "password": "secret"})


def test_again_is_another_password(url: str) -> None:
    """The role stays, with a new password, and the next session connects with it."""
    first = set_up_loopback(url)
    assert first == Loopback("pgembed_loopback_pgembed_test_loop", "127.0.0.1", None)
    with connect(url) as connection:
        before = scalar(connection, "select conninfo from pgembed.loopback")
        assert set_up_loopback(url) == first
        after = scalar(connection, "select conninfo from pgembed.loopback")
        passwords = [conninfo_to_dict(each)["password"] for each in (before, after)]
        assert len({*passwords}) == 2
        assert len(str(passwords[0])) == 64
        assert scalar(connection, "select pgembed.check_loopback()") is None


def test_a_host_that_does_not_answer_is_named(url: str) -> None:
    """With the reason, and nothing stays set up; several hosts are tried in turn by libpq."""
    with pytest.raises(SchemaError, match=r"127\.0\.0\.1.*refused") as refusal:
        set_up_loopback(url, host="127.0.0.1", port=1)
    assert "--loopback-host" in str(refusal.value.hint)
    with connect(url) as connection:
        assert scalar(connection, "select count(*) from pgembed.loopback") == 0
        port = connection.info.port
    found = set_up_loopback(url, host="127.0.0.2,127.0.0.1", port=port)
    assert found.host == "127.0.0.2,127.0.0.1"


def test_another_database_is_no_loopback(url: str, database_url: str) -> None:
    """A connection string that leads elsewhere is found out."""
    set_up_loopback(url)
    with connect(url) as connection:
        connection.execute(
            "update pgembed.loopback set conninfo = replace(conninfo, 'dbname=''pgembed_test_loop''',"
            " 'dbname=postgres')"
        )
        assert "another server or database" in scalar(connection, "select pgembed.check_loopback()")


@pytest.mark.parametrize(
    "name",
    ["pgembed_test 'odd\" \\name\u00e4", "pgembed_test_" + "x" * 50],
    ids=["odd", "63 bytes"],
)
def test_any_name_of_a_database(database_url: str, template: str, name: str) -> None:
    """Quotes, backslashes, letters beyond ascii, and the longest one: the role's name fits."""
    with copied_database(database_url, template, name) as copied:
        role = set_up_loopback(copied).role
        with without_roles(database_url, role), connect(copied) as connection:
            assert len(role.encode()) <= 63
            assert role.startswith("pgembed_loopback_")
            assert scalar(connection, "select pgembed.check_loopback()") is None
            connection.execute("select pgembed.close_loopback()")
            assert migrate(copied, revision="base").advice is None


def test_an_owner_without_superuser_sets_it_up(
    owned_url: str, database_url: str, tiny_directory: object
) -> None:
    """Where dblink exists, createrole is enough; the text goes all the way, pgvector elsewhere."""
    migrate(owned_url)
    with pytest.raises(SchemaError, match="dblink") as refusal:
        set_up_loopback(owned_url)
    assert "create extension if not exists dblink" in str(refusal.value.hint)
    with connect(with_database(database_url, "pgembed_test_loop_owned")) as superuser:
        superuser.execute("create schema elsewhere")
        superuser.execute("create extension dblink schema elsewhere")
        superuser.execute(f"grant usage on schema elsewhere to {OWNER}")
    assert set_up_loopback(owned_url).role == "pgembed_loopback_pgembed_test_loop_owned"
    with connect(owned_url) as connection:
        connection.execute(f"create schema mine authorization {OWNER}")
        connection.execute("set search_path = mine, extensions")
        register_encoder(connection, str(tiny_directory), name="tiny")
        make_papers(connection)
        with working(owned_url):
            found = scalar(
                connection, "select count(*) from pgembed.search('papers', 'red apple', 4)"
            )
        assert found == 4
        verdicts = connection.execute(
            "select distinct verdict from pgembed.doctor() where name like 'loopback%%'"
        )
        assert verdicts.fetchall() == [("ok",)]
        connection.execute("drop schema if exists mine cascade")


def test_a_role_that_may_not_create_roles_is_told(owned_url: str, database_url: str) -> None:
    """The hint is what a superuser can run for it, and that works."""
    migrate(owned_url)
    with connect(with_database(database_url, "pgembed_test_loop_owned")) as superuser:
        superuser.execute("create extension dblink")
        superuser.execute(f"alter role {OWNER} nocreaterole")
        with pytest.raises(SchemaError, match="permission denied") as refusal:
            set_up_loopback(owned_url)
        assert "--sql-encode --sql" in str(refusal.value.hint)
        superuser.execute(loopback_sql().encode())
        assert scalar(superuser, "select pgembed.check_loopback()") is None
    left = migrate(owned_url, revision="base").advice
    assert left is not None
    assert "pgembed_loopback_pgembed_test_loop_owned of the text queries is left" in left


def test_base_takes_the_role_along(url: str) -> None:
    """Nothing of ours is left in the server."""
    role = set_up_loopback(url).role
    assert migrate(url, revision="base").advice is None
    with connect(url) as connection:
        exists = "select count(*) from pg_roles where rolname = %s"
        assert scalar(connection, exists, (role,)) == 0


def test_the_command_sets_it_up(url: str) -> None:
    """As an option of migrate, which may print what it would do."""
    result = CliRunner().invoke(app, ["migrate", "--sql-encode", "--url", url])
    assert result.exit_code == 0, result.output
    assert "pgembed_loopback_pgembed_test_loop" in result.output.replace("\n", "")
    printed = CliRunner().invoke(
        app, ["migrate", "--sql-encode", "--sql", "--loopback-host", "it's", "--loopback-port", "7"]
    )
    assert "select pgembed.set_loopback('it''s', 7);" in printed.output
    refused = CliRunner().invoke(app, ["migrate", "--sql-encode", "--revision", "base"])
    assert refused.exit_code == 2
    json = CliRunner().invoke(app, ["migrate", "--sql-encode", "--json", "--url", url])
    assert '"host": "127.0.0.1"' in json.output

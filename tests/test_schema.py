"""pgembed.schema: what migrations and SQL files make of a database, and back."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pglast
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import pgembed
from pgembed import resources
from pgembed.database import Connection, connect
from pgembed.errors import NotFoundError, SchemaError, ServerError
from pgembed.schema import Migration, current_revision, head_revision, migrate, migration_sql
from pgembed.server import find_binaries
from tests.conftest import with_database
from tests.databases import url_of

FUNCTIONS = (
    "select p.oid::regprocedure::text, pg_get_functiondef(p.oid), p.proacl::text,"
    " obj_description(p.oid, 'pg_proc') from pg_proc as p where p.pronamespace = 'pgembed'::regnamespace"
)
RELATIONS = (
    "select r.oid::regclass::text, r.relkind::text, r.relpersistence::text, r.relacl::text,"
    " obj_description(r.oid, 'pg_class') from pg_class as r"
    " where r.relnamespace in ('pgembed'::regnamespace, 'pgembed_data'::regnamespace)"
)
COLUMNS = (
    "select a.attrelid::regclass::text, a.attname, format_type(a.atttypid, a.atttypmod),"
    " a.attnotnull, pg_get_expr(d.adbin, d.adrelid), col_description(a.attrelid, a.attnum)"
    " from pg_attribute as a join pg_class as r on r.oid = a.attrelid"
    " left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum"
    " where r.relnamespace = 'pgembed'::regnamespace and a.attnum > 0 and not a.attisdropped"
)
CONSTRAINTS = (
    "select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint"
    " where connamespace = 'pgembed'::regnamespace"
)
SCHEMAS = (
    "select nspname, obj_description(oid, 'pg_namespace') from pg_namespace"
    " where nspname like 'pgembed%'"
)

DEFINERS = {
    "ask_worker",
    "capture_changes",
    "check_loopback",
    "fetch_request",
    "submit_request",
}
"""Functions that run with their owner's rights."""


@pytest.fixture
def empty_url(database_url: str) -> Iterator[str]:
    """A database with nothing in it."""
    with made_database(database_url, "pgembed_test_empty") as url:
        yield url


@contextmanager
def made_database(database_url: str, name: str) -> Iterator[str]:
    """A database of this name while the block lasts."""
    with psycopg.connect(database_url, autocommit=True) as server:
        server.execute(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
        )
        server.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        try:
            yield with_database(database_url, name)
        finally:
            server.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def owner(database_url: str) -> Iterator[str]:
    """A role that may log in and nothing more; it outlives the databases of its test."""
    name = "pgembed_test_schema_owner"
    with psycopg.connect(database_url, autocommit=True) as server:
        server.execute(f"drop role if exists {name}")
        server.execute(f"create role {name} login password 'secret'")
        yield name
        server.execute(f"drop role {name}")


def as_role(url: str, role: str) -> str:
    """The same database, another user."""
    return make_conninfo(**{**conninfo_to_dict(url), "user": role, "password": "secret"})


def catalog(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """All that pgembed made in a database, as the catalogs have it."""
    queries = {
        "functions": FUNCTIONS,
        "relations": RELATIONS,
        "columns": COLUMNS,
        "constraints": CONSTRAINTS,
        "schemas": SCHEMAS,
    }
    with connect(url) as connection:
        connection.execute("set search_path = pg_catalog")
        return {
            name: sorted(connection.execute(query.encode()).fetchall(), key=str)
            for name, query in queries.items()
        }


def names_of(kind: str) -> set[str]:
    """Functions that the files of a directory promise: their names."""
    return {path.stem for path in resources.sql_files() if path.parent.name == kind}


def test_an_installation_says_what_it_did(empty_url: str) -> None:
    """The first migration comes from nothing, the second changes nothing."""
    assert migrate(empty_url) == Migration(None, head_revision(), None)
    before = catalog(empty_url)
    assert migrate(empty_url) == Migration(head_revision(), head_revision(), None)
    assert catalog(empty_url) == before
    assert migrate(empty_url, revision=head_revision()).after == head_revision()
    assert catalog(empty_url) == before


def test_up_down_and_up_again(papers: Connection) -> None:
    """Base removes all that pgembed made and nothing else; up again is as at first."""
    url = url_of(papers)
    before = catalog(url)
    papers.execute("create table mine (id int)")
    assert migrate(url, revision="base") == Migration(head_revision(), None, None)
    assert current_revision(papers) is None
    left = papers.execute(
        "select count(*) from pg_class as r join pg_namespace as n on n.oid = r.relnamespace"
        " where r.relpersistence <> 't' and (n.nspname like 'pgembed%' or r.relname like '%pgembed%')"
    ).fetchone()
    assert left == (0,)
    assert (
        papers.execute("select nspname from pg_namespace where nspname like 'pgembed%'").fetchall()
        == []
    )
    assert papers.execute("select tgname from pg_trigger where not tgisinternal").fetchall() == []
    assert papers.execute("select count(*) from papers").fetchone() == (60,)
    papers.execute("update papers set title = 'x'")
    assert migrate(url, revision="base") == Migration(None, None, None)
    migrate(url)
    after = catalog(url)
    of_collections = ("pgembed.search_papers(", "pgembed.rank_papers(")
    assert after["functions"] == [
        function for function in before["functions"] if not function[0].startswith(of_collections)
    ]
    assert after["columns"] == before["columns"]
    assert after["constraints"] == before["constraints"]


def test_functions_are_the_files(shared: Connection) -> None:
    """Each file of sql/ makes the functions of its name, and collections make three each."""
    rows = shared.execute(
        "select proname from pg_proc where pronamespace = 'pgembed'::regnamespace and proname not in"
        " (select kind || name from pgembed.collection, unnest('{search_,rank_}'::text[]) as kind)"
    ).fetchall()
    found = [name for (name,) in rows]
    files = names_of("internal") | names_of("public")
    promised = [name for path in resources.sql_files() for name, _ in functions_of(path)]
    missing = [f"{name}: run sql/**/{name}.sql" for name in sorted(files - set(found))]
    unknown = [f"{name}: no file of this name" for name in sorted(set(found) - files)]
    overloaded = [
        f"{name}: overloaded" for name in sorted(files) if found.count(name) > promised.count(name)
    ]
    assert not [*missing, *unknown, *overloaded]
    assert not names_of("internal") & names_of("public")


def functions_of(path: Path) -> list[tuple[str, str]]:
    """Name and statement of each function or procedure that a file makes."""
    text = path.read_bytes()
    return [
        (
            ".".join(part.sval for part in raw.stmt.funcname).removeprefix("pgembed."),
            text[raw.stmt_location :][: raw.stmt_len].decode(),
        )
        for raw in pglast.parse_sql(text.decode())
        if isinstance(raw.stmt, pglast.ast.CreateFunctionStmt) and raw.stmt.replace
    ]


@pytest.mark.parametrize("path", resources.sql_files(), ids=lambda path: path.stem)
def test_a_file_is_one_function_and_its_comment(path: Path) -> None:
    """PostgreSQL's grammar reads it, bodies included, and it makes what its name says, commented."""
    text = path.read_text(encoding="utf-8")
    made = functions_of(path)
    assert {name for name, _ in made} == {path.stem}
    assert len(re.findall(r"^create ", text, re.MULTILINE)) == len(made)
    assert len(re.findall(r"^comment on ", text, re.MULTILINE)) == len(made)
    for _, statement in made:
        if "language plpgsql" in statement and "returns trigger" not in statement:
            pglast.parse_plpgsql(without_record_types(statement))


def without_record_types(function: str) -> str:
    """A statement with records for composite types, which pglast cannot look up."""
    function = re.sub(r"\b(pgembed\.hit|vector|halfvec)\[\]", "text[]", function)
    function = re.sub(
        r"\bpgembed\.(collection|encoder|hit|encode_request)\b(?! as)", "record", function
    )
    return re.sub(r"\b(\w+) pg_class( :=|;)", r"\1 record\2", function)


def test_everything_is_described(shared: Connection) -> None:
    """Each table, sequence, function and schema says what it promises."""
    undescribed = shared.execute(
        "select r.oid::regclass::text from pg_class as r"
        " where r.relnamespace = 'pgembed'::regnamespace and r.relkind in ('r', 'S', 'v')"
        "   and r.relname <> 'alembic_version' and obj_description(r.oid, 'pg_class') is null"
        " union all select p.oid::regprocedure::text from pg_proc as p"
        " where p.pronamespace = 'pgembed'::regnamespace and obj_description(p.oid, 'pg_proc') is null"
        " union all select nspname from pg_namespace as n"
        " where nspname like 'pgembed%' and obj_description(n.oid, 'pg_namespace') is null"
    ).fetchall()
    assert undescribed == []


def test_side_tables_are_described(shared: Connection) -> None:
    """The table that a collection makes says whose chunks it holds."""
    row = shared.execute("select obj_description('pgembed_data.papers'::regclass)").fetchone()
    assert row is not None
    assert "papers" in row[0]


def test_definers_are_safe(shared: Connection) -> None:
    """What runs with its owner's rights pins a path without user schemas, and is not for PUBLIC."""
    rows = shared.execute(
        "select p.proname, p.proconfig, has_function_privilege('public', p.oid, 'execute')"
        " from pg_proc as p where p.pronamespace = 'pgembed'::regnamespace and p.prosecdef"
    ).fetchall()
    assert {name for name, _, _ in rows} == DEFINERS
    for name, configuration, public in rows:
        assert "search_path=pg_catalog, pg_temp" in configuration, name
        assert not public, name


def test_search_paths_are_pinned(shared: Connection) -> None:
    """No function depends on its caller's path: it has its own, or a body that was bound when made."""
    rows = shared.execute(
        "select p.proname, p.proconfig from pg_proc as p"
        " where p.pronamespace = 'pgembed'::regnamespace and p.prosqlbody is null"
        # A procedure that commits cannot have settings; its names are qualified.
        " and p.proname <> 'prepare_query'"
    ).fetchall()
    for name, configuration in rows:
        paths = [item for item in configuration or [] if item.startswith("search_path=")]
        assert paths, name
        assert paths[0].endswith(", pg_temp"), name


def test_a_dba_can_run_it_himself(empty_url: str, template: str, database_url: str) -> None:
    """The statements of migration_sql, run through any client, make the schema that migrate makes."""
    with connect(empty_url) as connection:
        connection.execute("create extension vector")
        connection.execute(migration_sql().encode())
        assert current_revision(connection) == head_revision()
    assert catalog(empty_url) == catalog(with_database(database_url, template))
    assert migrate(empty_url) == Migration(head_revision(), head_revision(), None)


def test_a_dba_can_run_it_for_another_schema(empty_url: str) -> None:
    """With pgvector elsewhere, the functions find it there, whatever the name of its schema."""
    with connect(empty_url) as connection:
        connection.execute('create schema "My; extensions"')
        connection.execute('create extension vector schema "My; extensions"')
        connection.execute(migration_sql(extension_schema="My; extensions").encode())
    before = catalog(empty_url)
    migrate(empty_url)
    assert catalog(empty_url) == before


def test_an_owner_without_special_rights_can_migrate(owner: str, empty_url: str) -> None:
    """Where the extension exists, CREATE on the database is all that is needed."""
    with connect(empty_url) as connection:
        connection.execute("create extension vector")
        connection.execute(f"grant create on database pgembed_test_empty to {owner}")
    url = as_role(empty_url, owner)
    migrate(url)
    with connect(url) as connection:
        connection.execute(f"create schema mine authorization {owner}")
        connection.execute("create table mine.notes (id int primary key, body text)")
        connection.execute("insert into mine.notes values (1, 'text')")
        connection.execute(
            "select pgembed.register_encoder('plain', repeat('a', 64), 2, 64, 'mean', 'nowhere')"
        )
        connection.execute(
            "select pgembed.create_collection('notes', 'mine.notes', '{body}', 'plain')"
        )
        connection.execute("update mine.notes set body = 'changed'")
        assert connection.execute("select key from pgembed.claim('notes', 1)").fetchall() == [
            ("1",)
        ]
    assert migrate(url, revision="base").after is None


def test_a_refusal_says_what_to_ask_for(owner: str, empty_url: str) -> None:
    """Without the extension, or without CREATE, the error holds the statement that helps."""
    with pytest.raises(SchemaError, match=f"'{owner}'") as refusal:
        migrate(as_role(empty_url, owner))
    assert "create extension vector" in str(refusal.value.hint)
    with connect(empty_url) as connection:
        connection.execute("create extension vector")
    with pytest.raises(SchemaError, match="permission denied") as refusal:
        migrate(as_role(empty_url, owner))
    assert "grant create on database" in str(refusal.value.hint)


def test_unknown_revisions_are_named(empty_url: str) -> None:
    """The error lists the revisions that exist, and nothing is installed."""
    with pytest.raises(SchemaError, match="'9999'") as refusal:
        migrate(empty_url, revision="9999")
    assert head_revision() in str(refusal.value.hint)
    with connect(empty_url) as connection:
        assert current_revision(connection) is None
        assert connection.execute("select to_regnamespace('pgembed')").fetchone() == (None,)


def test_a_newer_database_is_left_alone(connection: Connection) -> None:
    """A database that a later pgembed migrated is not touched; the error says to upgrade."""
    connection.execute("update pgembed.alembic_version set version_num = '9999'")
    before = catalog(url_of(connection))
    for revision in ("head", "base"):
        with pytest.raises(SchemaError, match="'9999'") as refusal:
            migrate(url_of(connection), revision=revision)
        assert "upgrade" in str(refusal.value.hint)
    assert catalog(url_of(connection)) == before


def test_functions_are_restored(connection: Connection) -> None:
    """A function that was dropped or changed by hand is right again after migrate."""
    url = url_of(connection)
    before = catalog(url)
    connection.execute("drop function pgembed.retry(text)")
    connection.execute(
        "create or replace function pgembed.expand_changes(collection text, max_keys int) returns bigint language sql"
        " return 7"
    )
    connection.execute("comment on function pgembed.route(text, vector, text) is null")
    migrate(url)
    assert catalog(url) == before


def test_a_missing_part_is_reported(connection: Connection) -> None:
    """With an older schema, or none, Python's calls end in SchemaError with the remedy."""
    connection.execute("drop function pgembed.describe_collection(text)")
    with pytest.raises(SchemaError, match="describe_collection") as refusal:
        pgembed.search(connection, "papers", "text")
    assert "pgembed migrate" in str(refusal.value.hint)
    connection.execute("drop schema pgembed cascade")
    with pytest.raises(SchemaError) as refusal:
        pgembed.search(connection, "papers", "text")
    assert "pgembed migrate" in str(refusal.value.hint)


def test_two_migrations_at_once(empty_url: str) -> None:
    """The second waits for the first; both succeed."""
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: migrate(empty_url), range(3)))
    assert {migration.after for migration in done} == {head_revision()}


def test_a_failed_migration_leaves_nothing(empty_url: str) -> None:
    """It is one transaction: what stood in the way is there, and nothing of ours."""
    with connect(empty_url) as connection:
        connection.execute("create extension vector")
        connection.execute("create schema pgembed_data")
        connection.execute("create schema pgembed")
        connection.execute("create table pgembed.router (mine int)")
        with pytest.raises(Exception, match='"router" already exists'):
            migrate(empty_url)
        left = connection.execute(
            "select oid::regclass::text from pg_class where relnamespace = 'pgembed'::regnamespace"
        ).fetchall()
        assert left == [("pgembed.router",)]


def pg_dump() -> str | None:
    """The dump program of the embedded server, or of this machine."""
    try:
        return str(find_binaries() / "pg_dump")
    except ServerError:
        return shutil.which("pg_dump")


def test_a_dump_restores_everything(papers: Connection, empty_url: str) -> None:
    """After pg_dump and psql, search answers as before, and triggers notice changes."""
    program = pg_dump()
    if program is None:
        pytest.skip("this machine has no pg_dump")
    query = (
        "select * from pgembed.search('papers', array_fill(1, '{32}')::vector, 5, hybrid => true,"
        " query_text => 'apple')"
    )
    dumped = subprocess.run(
        [program, "--dbname", url_of(papers), "--inserts", "--no-owner"],
        capture_output=True,
        text=True,
        check=False,
    )
    if "server version mismatch" in dumped.stderr:
        pytest.skip("this machine's pg_dump is of another version than the server")
    assert dumped.returncode == 0, dumped.stderr
    script = "\n".join(line for line in dumped.stdout.splitlines() if not line.startswith("\\"))
    with connect(empty_url) as restored:
        restored.execute(script.encode())
        restored.execute("set search_path = public")
        assert restored.execute(query).fetchall() == papers.execute(query).fetchall()
        restored.execute("update papers set title = 'x' where id = 5")
        assert restored.execute("select unnest(keys) from pgembed.change").fetchall() == [("5",)]
    before, after = catalog(url_of(papers)), catalog(empty_url)
    assert after["functions"] == before["functions"]
    assert after["columns"] == before["columns"]
    assert migrate(empty_url).before == head_revision()


def test_errors_keep_their_cause(shared: Connection) -> None:
    """What the database said is behind the error that Python raises."""
    with pytest.raises(NotFoundError) as raised:
        pgembed.search(shared, "nope", "text")
    assert isinstance(raised.value.__cause__, psycopg.Error)
    assert raised.value.__cause__.sqlstate == "PGE01"

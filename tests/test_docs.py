"""The documentation: generated pages are current, links resolve, and marked examples run.

An example that stands after ``<!-- tested -->`` is run, page by page from top to bottom, against a
database of the page's own: SQL as it is, Python in one namespace, ``$ pgembed`` lines of a console
through the command line.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from typer.main import get_command
from typer.testing import CliRunner

import pgembed
from pgembed import reference
from pgembed.cli.app import app
from pgembed.database import Connection
from pgembed.demo.plain_sql import worker
from pgembed.descent import LinearSettings
from pgembed.errors import GateError
from pgembed.loopback import loopback_role
from tests.databases import url_of
from tests.sql.support import scalar

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

FENCED = re.compile(r"^(<!-- tested -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")

ON_PAPERS = (
    "docs/concepts.md",
    "docs/evaluation.md",
    "docs/experts.md",
    "docs/feedback.md",
    "docs/filters.md",
    "docs/hybrid.md",
    "docs/operations.md",
    "docs/planning.md",
    "docs/routing.md",
    "docs/search.md",
    "docs/text-queries.md",
)
"""Pages whose examples search the ``papers`` of conftest; the others make all that they use."""

ROLES = (
    "search_reader",
    "app_writer",
    "sync_worker",
    "trainer",
    "text_reader",
    "text_worker",
    "click_logger",
)
"""Roles that docs/operations.md, docs/text-queries.md and docs/feedback.md create."""

Block = tuple[str, str]


def examples_of(page: Path) -> list[Block]:
    """Language and text of the examples that are marked."""
    found = FENCED.findall(page.read_text(encoding="utf-8"))
    return [(language, text) for mark, language, text in found if mark]


WITH_EXAMPLES = [name for name, page in zip(NAMES, PAGES, strict=True) if examples_of(page)]


def anchors(page: Path) -> set[str]:
    """What links may point to: headings as GitHub names them."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def spoken_commands(page: Path) -> list[str]:
    """Calls of pgembed in consoles and in spans of code, without the name itself."""
    text = page.read_text(encoding="utf-8")
    lines = [
        line.removeprefix("$ ")
        for _, language, block in FENCED.findall(text)
        if language == "console"
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("$ ")
    ]
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", FENCED.sub("", text))
    calls = [re.search(r"""(?:^|["(;] ?)pgembed (.*)""", each) for each in lines + spans]
    return [call.group(1) for call in calls if call]


def command_of(call: str) -> tuple[Any, list[str]]:
    """The command that a call reaches, and the words after it."""
    command: Any = get_command(app)
    words = re.split(r"[|;>)#]", call)[0].replace('"', " ").split()
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    return command, words


@pytest.mark.parametrize("name", sorted(reference.pages()))
def test_reference_pages_are_current(name: str) -> None:
    """A page in the repository is what the generator writes now."""
    committed = DOCS / "reference" / name
    assert committed.is_file(), f"{committed.name} is missing; run: make docs"
    is_current = committed.read_text(encoding="utf-8") == reference.pages()[name]
    assert is_current, f"docs/reference/{name} is out of date; run: make docs"


def test_every_sql_function_is_in_the_reference() -> None:
    """Each file of sql/public has its section, with a comment."""
    page = reference.sql_page()
    for path in sorted((ROOT / "sql" / "public").glob("*.sql")):
        assert f"### pgembed.{path.stem}\n" in page
        assert all(comment for _, comment in reference.sql_functions()[path.stem])


def test_every_table_is_in_the_reference(connection: Connection) -> None:
    """The tables and columns read from the migrations are those of a migrated database."""
    found = connection.execute(
        "select c.oid::regclass::text, coalesce(obj_description(c.oid, 'pg_class'), ''),"
        " array(select a.attname::text from pg_attribute as a"
        "  where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum)"
        " from pg_class as c where c.relnamespace = 'pgembed'::regnamespace and c.relkind = 'r'"
        " and c.relname <> 'alembic_version'"
    ).fetchall()
    written = {
        name: (comment, [column.name for column in columns])
        for name, (comment, columns) in reference.sql_tables().items()
    }
    assert written == {name: (comment, columns) for name, comment, columns in found}


def test_every_command_is_in_the_reference() -> None:
    """Each command and group has its section."""

    def sections(command: Any, name: str) -> Iterator[str]:
        yield f" `{name}`\n"
        for child_name, child in getattr(command, "commands", {}).items():
            yield from sections(child, f"{name} {child_name}")

    page = reference.cli_page()
    for section in list(sections(get_command(app), "pgembed"))[1:]:
        assert section in page


def test_every_public_name_is_in_the_reference() -> None:
    """Each name of __all__ has its section, with a docstring of its own."""
    page = reference.python_page()
    for name in pgembed.__all__:
        assert f"## {name}\n" in page
        assert getattr(pgembed, name).__doc__, name


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_resolve(page: Path) -> None:
    """Relative links lead to a file, and to a heading of it."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    for link in LINK.findall(text):
        if not link.startswith(("https://", "http://")):
            place, _, anchor = link.partition("#")
            target = (page.parent / place).resolve() if place else page
            assert target.exists(), f"{link} leads nowhere"
            assert not anchor or anchor in anchors(target), f"{link} names no heading"


def test_the_index_lists_every_page() -> None:
    """Whoever starts at docs/index.md finds each page, and finds no page that does not exist."""
    listed = LINK.findall((DOCS / "index.md").read_text(encoding="utf-8"))
    found = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - {"index.md"}
    local = {link.partition("#")[0] for link in listed if not link.startswith(("http", "../"))}
    assert local == found


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_exist(page: Path) -> None:
    """Every command and option that a page speaks of is one of the command line's."""
    for call in spoken_commands(page):
        command, words = command_of(call)
        assert not getattr(command, "commands", None) or not words or words[0][0] in "-[", call
        options = {option for parameter in command.params for option in parameter.opts}
        for word in words:
            if re.match(r"--?[a-z]", word):
                assert word.partition("=")[0] in {*options, "--help"}, f"pgembed {call}: {word}"


@pytest.fixture
def page_connection(
    request: pytest.FixtureRequest,
    migrated_url: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Connection]:
    """A connection to the database that a page's examples run in, and a folder for their files."""
    monkeypatch.setenv("PGEMBED_URL", migrated_url)
    monkeypatch.chdir(tmp_path)
    fixture = "papers" if request.param in ON_PAPERS else "connection"
    connection: Connection = request.getfixturevalue(fixture)
    yield connection
    connection.execute("reset role")
    for role in (*ROLES, loopback_role(connection)):
        if connection.execute("select 1 from pg_roles where rolname = %s", (role,)).fetchone():
            name = sql.Identifier(role)
            connection.execute(sql.SQL("drop owned by {}").format(name))
            connection.execute(sql.SQL("drop role {}").format(name))


def run(connection: Connection, block: Block, namespace: dict[str, Any]) -> None:
    """Run one example; SQL that asks for rows gets at least one."""
    language, text = block
    if language == "sql":
        cursor = connection.execute(text)
        while True:
            assert cursor.description is None or cursor.rowcount > 0, text
            if not cursor.nextset():
                break
    elif language == "python":
        exec(compile(text, "example", "exec"), namespace)
    elif language == "console":
        for line in text.replace("\\\n", " ").splitlines():
            assert line.startswith("$ pgembed "), line
            if line == "$ pgembed worker":
                namespace["workers"].enter_context(worker_at_work(connection))
                continue
            result = CliRunner().invoke(app, shlex.split(line.removeprefix("$ pgembed ")))
            assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
    else:
        pytest.fail(f"an example in {language!r} cannot be run")


@contextmanager
def worker_at_work(connection: Connection) -> Iterator[None]:
    """A real worker in a thread, which has opened the encoder of every collection."""
    served = "select bool_and(pgembed.has_encode_worker(encoder)) from pgembed.collection"
    with worker(url_of(connection)):
        while not scalar(connection, served):
            time.sleep(0.05)
        yield


@pytest.mark.minilm
@pytest.mark.parametrize(
    ("name", "page_connection"),
    [(name, name) for name in WITH_EXAMPLES],
    ids=WITH_EXAMPLES,
    indirect=["page_connection"],
)
def test_examples_run(name: str, page_connection: Connection) -> None:
    """The marked examples of a page run one after the other, and find something."""
    with ExitStack() as workers:
        namespace: dict[str, Any] = {"connection": page_connection, "workers": workers}
        for block in examples_of(ROOT / name):
            run(page_connection, block, namespace)


@contextmanager
def session_of(role: str) -> Iterator[Connection]:
    """A session of its own with the rights of a role."""
    with pgembed.connect() as opened:
        opened.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
        yield opened


@pytest.mark.parametrize("page_connection", ["docs/operations.md"], indirect=True)
def test_grants_of_the_operations_page_are_enough(page_connection: Connection) -> None:
    """Readers search, writers write, a sync worker embeds, trainers train; nobody does more."""
    for block in examples_of(DOCS / "operations.md"):
        run(page_connection, block, {})
    with session_of("app_writer") as writer:
        writer.execute("insert into papers (id, title, year) values (1000, 'a new paper', 2024)")
        writer.execute("update papers set title = 'another title' where id = 1")
        writer.execute("delete from papers where id = 2")
    with session_of("sync_worker") as worker:
        assert pgembed.sync(worker, "papers").documents == 2
    with session_of("search_reader") as reader:
        hits = pgembed.search(reader, "papers", "new paper", filter={"year": 2024}, hybrid=True)
        assert [hit.key for hit in hits] == ["1000"]
        assert pgembed.explain(reader, "papers", "paper", mode="base").plan.plan == "exact"
        for refused in ("delete from papers", "select pgembed.mark_stale('papers')"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(refused)
    with session_of("trainer") as trainer:
        asked = [pgembed.Judgment(f"paper no. {n}", str(n)) for n in range(3, 61)]
        pgembed.add_judgments(trainer, "papers", asked)
        judged = [pgembed.read_judged(trainer, "papers")]
        trained = pgembed.train_expert(trainer, "general", judged, settings=LinearSettings(steps=5))
        assert trained.expert.state == "rejected"
        with pytest.raises(GateError):
            pgembed.build_router(trainer, judged)
        trainer.execute("select pgembed.set_router('tiny', 'pilot', '{}')")
        trainer.execute(
            "insert into pgembed.pilot select 'tiny', 'base', 'd', 1, embedding"
            " from pgembed.query_cache limit 1"
        )
    page_connection.execute("alter table papers enable row level security")
    page_connection.execute("create policy one on papers to search_reader using (id = 1000)")
    with session_of("search_reader") as reader:
        seen = reader.execute("select content from pgembed_data.papers").fetchall()
        assert seen == [("a new paper",)]


@pytest.mark.parametrize("page_connection", ["docs/text-queries.md"], indirect=True)
def test_grants_of_the_text_page_are_enough(page_connection: Connection) -> None:
    """A worker that is not the owner takes, routes, answers, sweeps and signs in."""
    for block in examples_of(DOCS / "text-queries.md"):
        if "create role" in block[1]:
            run(page_connection, block, {})
    with session_of("text_worker") as worker:
        worker.execute("select pgembed.register_claimer(), pgembed.serve_encoder('tiny')")
        worker.execute("select pgembed.take_requests(1, '{tiny}')")
        worker.execute("select pgembed.answer_requests(1, '{}', '{}', '{}', '{}', '{}')")
        worker.execute("select pgembed.sweep_requests()")
        assert pgembed.load_router(worker, "tiny").experts == {}
        worker.execute(
            "insert into pgembed.worker (id, host, pid, version) values (1, 'h', 1, '1')"
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            worker.execute("table pgembed.loopback")


@pytest.mark.parametrize("page_connection", ["docs/feedback.md"], indirect=True)
def test_grants_of_the_feedback_page_are_enough(page_connection: Connection) -> None:
    """Who logs can log, and reads no query."""
    for block in examples_of(DOCS / "feedback.md"):
        run(page_connection, block, {})
    with session_of("click_logger") as logger:
        search = scalar(logger, "select pgembed.log_impression('papers', 'secret', '{1,2}')")
        statement = "select pgembed.log_click('papers', 'secret', '2', 2, search => %s)"
        logger.execute(statement, (search,))
        logger.execute("select pgembed.log_click('papers', 'secret', '3', 1, 0.5)")
        for refused in ("select query from pgembed.click", "delete from pgembed.click"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                logger.execute(refused)
    assert scalar(page_connection, "select count(*) from pgembed.click where clicked") == 4

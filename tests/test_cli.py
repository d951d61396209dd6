"""The ``pgembed`` command: what it prints, where, and with which exit status."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer
from psycopg import sql

from pgembed import __version__, descent
from pgembed.cli import main
from pgembed.cli.app import app
from pgembed.database import connect
from pgembed.experts import list_experts
from pgembed.judgments import add_judgments
from tests.conftest import make_papers, with_database
from tests.databases import cleared, copied_database
from tests.encoders.tiny import make_tiny_encoder
from tests.test_training import judgments, make_documents


@dataclass(frozen=True, slots=True)
class Answer:
    """What one command said."""

    status: int
    out: str
    """Standard output, with every run of blanks as one: tables and lines are wrapped."""
    err: str
    raw: str

    @property
    def json(self) -> Any:
        """Standard output read as json."""
        return json.loads(self.raw)


Command = Callable[..., Answer]


@pytest.fixture
def pgembed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in this process, which is what the shell runs less the start of Python."""
    for name in [each for each in os.environ if each.startswith("PG")]:
        monkeypatch.delenv(name)

    def run(*arguments: str, url: str | None = None) -> Answer:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["pgembed", *arguments, *(["--url", url] if url else [])])
        status: Any = 0
        try:
            main()
        except SystemExit as exit_:
            status = exit_.code
        out, err = capsys.readouterr()
        return Answer(int(status or 0), " ".join(out.split()), " ".join(err.split()), out)

    return run


@pytest.fixture(scope="module")
def copied(database_url: str, template: str) -> Iterator[str]:
    """One database for the tests that change it."""
    with copied_database(database_url, template, "pgembed_test_cli") as made:
        yield made


@pytest.fixture
def url(copied: str) -> Iterator[str]:
    """That database, emptied after each test."""
    with cleared(copied):
        yield copied


@pytest.fixture
def papers_url(url: str) -> str:
    """A database with the collection ``papers``."""
    with connect(url) as connection:
        make_papers(connection)
    return url


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of the tree with its words."""
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands(each, (*path, name))


TREE = dict(commands(typer.main.get_command(app)))


# Help and version.


def test_the_version_is_printed(pgembed: Command) -> None:
    """By the option, and by the module run as a program."""
    assert pgembed("--version").out == f"pgembed {__version__}"
    done = subprocess.run(
        [sys.executable, "-m", "pgembed", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"pgembed {__version__}"


def test_there_is_a_command_for_everything() -> None:
    """The tree that the documentation speaks of."""
    leaves = {" ".join(path) for path in TREE}
    assert leaves >= {
        "demo", "migrate", "search", "sync",
        "collection create", "collection drop", "collection list",
        "encoder add", "encoder list",
        "expert list", "expert retire", "expert show", "expert train",
        "router build", "router add", "router show",
        "server start", "server status", "server stop", "server url",
    }  # fmt: skip


@pytest.mark.parametrize("path", TREE, ids=" ".join)
def test_every_command_and_option_says_what_it_does(
    pgembed: Command, path: tuple[str, ...]
) -> None:
    """--help works without a database, and nothing in it is left without a word."""
    answer = pgembed(*path, "--help")
    assert answer.status == 0
    assert "Usage:" in answer.out
    command = TREE[path]
    assert (command.help or "").strip()
    for parameter in command.params:
        assert getattr(parameter, "help", None), parameter.name


@pytest.mark.parametrize("path", ["search", "collection create", "encoder add", "server start"])
def test_commands_that_need_one_show_an_example(pgembed: Command, path: str) -> None:
    """One that can be copied."""
    assert f"pgembed {path}" in pgembed(*path.split(), "--help").out.replace("│", "").replace(
        'psql "$(', ""
    )


@pytest.mark.parametrize("path", ["", "collection", "expert"])
def test_a_group_alone_shows_its_commands(pgembed: Command, path: str) -> None:
    """Rather than nothing."""
    answer = pgembed(*path.split())
    assert "Usage:" in answer.out + answer.err


# Schema and encoders.


def test_migrating_twice_is_fine(pgembed: Command, database_url: str) -> None:
    """The second run says that nothing changed; base removes it all."""
    name = "pgembed_test_migrate"
    with psycopg.connect(database_url, autocommit=True) as server:
        server.execute(sql.SQL("drop database if exists {}").format(sql.Identifier(name)))
        server.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        try:
            url = with_database(database_url, name)
            assert "nothing -> 0001" in pgembed("migrate", url=url).out
            assert "already" in pgembed("migrate", url=url).out
            assert pgembed("migrate", "--json", url=url).json["before"] == "0001"
            answer = pgembed("migrate", "--revision", "9999", url=url)
            assert answer.status == 1
            assert "there is no revision '9999'" in answer.err
            assert "removed" in pgembed("migrate", "--revision", "base", url=url).out
        finally:
            server.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def test_the_statements_of_an_installation_can_be_read(pgembed: Command) -> None:
    """Without a database."""
    answer = pgembed("migrate", "--sql")
    assert answer.status == 0
    assert "create table pgembed.encoder" in answer.out
    assert "create or replace function pgembed.search" in answer.out


def test_encoders_are_added_and_listed(pgembed: Command, url: str, tmp_path: Path) -> None:
    """As a table and as json; options make another model."""
    directory = str(make_tiny_encoder(tmp_path / "model"))
    assert (
        "Encoder mine: 32 dimensions, 128 tokens"
        in pgembed("encoder", "add", "mine", directory, url=url).out
    )
    added = pgembed(
        "encoder", "add", "prefixed", directory, "--query-prefix", "ask: ", "--json", url=url
    ).json
    assert added["query_prefix"] == "ask: "
    assert "mine" in pgembed("encoder", "list", url=url).out
    listed = pgembed("encoder", "list", "--json", url=url).json
    assert [each["name"] for each in listed] == ["mine", "prefixed", "tiny"]
    refused = pgembed("encoder", "add", "mine", directory, "--max-tokens", "64", url=url)
    assert refused.status == 1
    assert "Hint: Another model makes other vectors" in refused.err


# Collections and syncs.


def test_a_collection_is_created_synced_listed_and_dropped(pgembed: Command, url: str) -> None:
    """The way of a first user, each command telling the next."""
    with connect(url) as connection:
        connection.execute("create table notes (id int primary key, a text, b text)")
        connection.execute("insert into notes values (1, 'red apple', 'x'), (2, 'ocean', null)")
    create = ["collection", "create", "notes", "--source", "public.notes", "--content", "a"]
    created = pgembed(*create, "--content", "b", "--encoder", "tiny", url=url)
    assert created.status == 0
    assert "pgembed sync notes" in created.out
    waiting = pgembed("collection", "list", "--json", url=url).json
    assert (waiting[0]["stale"], waiting[0]["chunks"], waiting[0]["indexed"]) == (2, 0, False)
    assert "notes: 2 rows in step, 2 chunks, 2 encoded" in pgembed("sync", "notes", url=url).out
    again = pgembed("sync", "--json", url=url).json
    assert [(each["collection"], each["documents"]) for each in again] == [("notes", 0)]
    listed = pgembed("collection", "list", url=url).out
    assert "notes" in listed
    assert "tiny" in listed
    assert pgembed("collection", "drop", "notes", "--yes", url=url).status == 0
    assert pgembed("collection", "list", "--json", url=url).json == []


def test_dropping_asks_first(
    pgembed: Command, papers_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an answer nothing is dropped."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert pgembed("collection", "drop", "papers", url=papers_url).status == 1
    assert len(pgembed("collection", "list", "--json", url=papers_url).json) == 1


def test_nothing_to_sync_says_how_to_begin(pgembed: Command, url: str) -> None:
    """A database without collections is no error."""
    answer = pgembed("sync", url=url)
    assert answer.status == 0
    assert "pgembed collection create" in answer.out


def test_rows_that_fail_are_told_and_change_the_exit_status(
    pgembed: Command, url: str, tmp_path: Path
) -> None:
    """With their keys, reasons, and how to try again."""
    from tests.test_syncing import make_fragile_encoder

    assert (
        pgembed(
            "encoder", "add", "fragile", str(make_fragile_encoder(tmp_path / "model")), url=url
        ).status
        == 0
    )
    with connect(url) as connection:
        connection.execute("create table notes (id text primary key, body text)")
        connection.execute("insert into notes values ('[/one]', '42'), ('two', 'fine')")
        connection.execute(
            "select pgembed.create_collection('it''s', 'notes', '{body}', encoder => 'fragile')"
        )
    answer = pgembed("sync", "it's", url=url)
    assert answer.status == 1
    assert "failed: [/one]: encoder fragile gave a vector that cannot be used" in answer.err
    assert "select pgembed.retry('it''s');" in answer.err
    assert "it's: 1 rows in step" in answer.out


# Searches.


def test_a_search_prints_its_hits(pgembed: Command, papers_url: str) -> None:
    """As a table, and as json with -k of them."""
    answer = pgembed("search", "papers", "red apple number 42", url=papers_url)
    assert answer.status == 0
    assert "red apple number 42" in answer.out
    hits = pgembed("search", "papers", "red apple", "-k", "3", "--json", url=papers_url).json
    assert [hit["rank"] for hit in hits] == [1, 2, 3]


def test_a_search_is_filtered(pgembed: Command, papers_url: str) -> None:
    """By json on the command line, with words as well as vectors."""
    arguments = ["search", "papers", "apple", "--filter", '{"id": [3, 4]}', "--hybrid", "--json"]
    assert {hit["key"] for hit in pgembed(*arguments, url=papers_url).json} == {"3", "4"}
    nothing = pgembed("search", "papers", "apple", "--filter", '{"id": -1}', url=papers_url)
    assert nothing.status == 0


def test_a_search_explains_itself(pgembed: Command, papers_url: str) -> None:
    """Route and plan, for people and for programs."""
    answer = pgembed("search", "papers", "red apple", "--explain", "--mode", "hard", url=papers_url)
    assert "mode hard: base 1" in answer.out
    assert "no expert has pilot embeddings" in answer.out
    assert "exact: there is no HNSW index yet" in answer.out or "exact: about" in answer.out
    found = pgembed("search", "papers", "apple", "--explain", "--json", url=papers_url).json
    assert set(found) == {"hits", "route", "plan", "steps"}
    assert found["plan"]["plan"] == "exact"


def test_a_search_pages_groups_and_excludes(pgembed: Command, papers_url: str) -> None:
    """Pages go on where the cursor says, groups are bounded, columns come back."""
    base = ["search", "papers", "red apple", "--json", "-k", "4"]
    first = pgembed(*base, url=papers_url).json
    after = json.dumps(first[-1]["cursor"])
    second = pgembed(*base, "--after", after, "--exclude", "fast car", url=papers_url).json
    assert [hit["rank"] for hit in second] == [5, 6, 7, 8]
    grouped = pgembed(*base, "--group-by", "topic", "--column", "topic", url=papers_url).json
    assert sorted(hit["fields"]["topic"] for hit in grouped) == ["a", "b", "c"]
    skipped = pgembed(*base, "--offset", "2", url=papers_url).json
    assert [hit["key"] for hit in skipped][:2] == [hit["key"] for hit in first][2:]
    for bad in ("no json", "3"):
        assert pgembed(*base, "--after", bad, url=papers_url).status == 1


def test_words_are_counted_on_request(pgembed: Command, papers_url: str) -> None:
    """Refresh says what it counted."""
    assert pgembed("refresh", "papers", "--json", url=papers_url).json["documents"] == 60
    assert "60 chunks" in pgembed("refresh", "papers", url=papers_url).out


def test_texts_are_printed_as_they_are(pgembed: Command, url: str) -> None:
    """Brackets are no markup, colons no emoji, and control characters cannot steer a terminal."""
    with connect(url) as connection:
        connection.execute("create table notes (id text primary key, body text)")
        connection.execute(
            "insert into notes values ('[/usr]', '[bold] :smile: [/x] red'), (%s, 'two')",
            ("\x1b[2J",),
        )
    odd = "[/odd] :car:"
    create = ["collection", "create", odd, "--source", "notes", "--content", "body"]
    assert odd in pgembed(*create, "--encoder", "tiny", url=url).out
    synced = pgembed("sync", odd, url=url)
    assert synced.status == 0
    assert f"{odd}: 2 rows in step" in synced.out
    found = pgembed("search", odd, "red", url=url)
    assert "[bold] :smile: [/x] red" in found.out
    assert "[/usr]" in found.out
    assert "\x1b" not in found.raw
    assert odd in pgembed("collection", "list", url=url).out
    assert "[/mode]" in pgembed("search", odd, "red", "--mode", "[/mode]", url=url).err


# Experts and routers.


def test_an_expert_is_trained_listed_shown_and_retired(
    pgembed: Command, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a router built on it and shown, all from the shell."""
    with connect(url) as connection:
        make_documents(connection)
        add_judgments(connection, "documents", judgments())
    here = ["--collection", "documents"]
    assert "has no router yet" in pgembed("router", "show", "--encoder", "tiny", url=url).out
    train = ["expert", "train", "cipher", *here, "--domain", "cipher", "--rank", "32"]
    monkeypatch.setenv("PGEMBED_CACHE", str(tmp_path))
    refused = pgembed(*train, "--anchor", "-1", url=url).err
    assert "the weight of the anchor is 0 or more, not -1" in refused
    trained = pgembed(*train, "--steps", "240", "--anchor", "0.2", "--json", url=url)
    assert trained.status == 0, trained.err
    assert trained.json["state"] == "active"
    rejected = pgembed(
        "expert", "train", "noise", *here, "--domain", "noise", "--steps", "20", url=url
    )
    assert rejected.status == 1
    assert "Expert noise is rejected: nDCG@10 changes by" in rejected.out
    listed = {each["name"]: each for each in pgembed("expert", "list", "--json", url=url).json}
    assert {name: each["state"] for name, each in listed.items()} == {
        "base": "active",
        "cipher": "active",
        "noise": "rejected",
    }
    assert "cipher" in pgembed("expert", "list", "--encoder", "tiny", url=url).out
    show = ["expert", "show", "cipher", "--encoder", "tiny"]
    settings = pgembed(*show, "--json", url=url).json["metrics"]["settings"]
    assert (settings["rank"], settings["anchor"]) == (32, 0.2)
    picture = tmp_path / "cipher.png"
    shown = pgembed(*show, "--plot", str(picture), url=url).out
    assert picture.read_bytes().startswith(b"\x89PNG")
    for told in ("linear, active", "cipher", "noise", "elsewhere", "Gate: nDCG@10", "rank 32"):
        assert told in shown
    assert "base, active" in pgembed("expert", "show", "base", "--encoder", "tiny", url=url).out
    assert not list((tmp_path / "trainings").glob("*"))
    built = pgembed("router", "build", *here, "--json", url=url).json
    assert built["version"] == 1
    assert {pilot["expert"] for pilot in built["pilots"]} <= {"base", "cipher"}
    assert (
        "Router version 2" in pgembed("router", "build", *here, "--labels", "domain", url=url).out
    )
    show = ["router", "show", "--encoder", "tiny"]
    assert pgembed(*show, "--json", url=url).json["pilots"]
    assert "cipher" in pgembed(*show, url=url).out
    utility = ["--kind", "utility", "--posterior", "knn", "--neighbours", "5", "--fallback"]
    assert pgembed("router", "build", *here, *utility, url=url).status == 0
    shown = pgembed(*show, url=url).out
    for told in ("version 3", "utility", "posterior knn", "Fallback: base 1 below", "Gain of soft"):
        assert told in shown
    added = pgembed("router", "add", "cipher", *here, url=url).out
    assert "Expert cipher is in the router, with domain cipher" in added
    fixed = ["--kind", "fixed", "--weight", "cipher=0.5", "--weight", "base=0.5"]
    parameters = pgembed("router", "build", *here, *fixed, "--json", url=url).json["parameters"]
    assert parameters["weights"] == {"cipher": 0.5, "base": 0.5}
    assert "Weights: base 0.5, cipher 0.5" in pgembed(*show, url=url).out
    refused = pgembed("router", "add", "cipher", *here, url=url)
    assert "nothing can be added to a router of kind fixed" in refused.err
    assert pgembed("expert", "retire", "cipher", "--encoder", "tiny", url=url).status == 0
    with connect(url) as connection:
        states = {each.name: each.state for each in list_experts(connection)}
    assert states["cipher"] == "retired"


def test_only_what_was_stored_is_described(
    pgembed: Command, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what was refused in favour of the expert that serves; a failure is told, no more."""
    monkeypatch.setenv("PGEMBED_CACHE", str(tmp_path))
    with connect(url) as connection:
        make_documents(connection)
        add_judgments(connection, "documents", judgments())
    train = ["--collection", "documents", "--domain", "noise", "--steps", "20"]
    described = "select described_at, z::text from pgembed.expert_domain order by side"
    assert pgembed("expert", "train", "kept", *train, url=url).status == 1
    with connect(url) as connection:
        connection.execute("update pgembed.expert set state = 'active' where name = 'kept'")
        before = connection.execute(described).fetchall()
    assert len(before) == 2
    refused = pgembed("expert", "train", "kept", *train, "--seed", "1", url=url)
    assert "Expert kept is rejected" in refused.out
    with connect(url) as connection:
        assert connection.execute(described).fetchall() == before

    def fail(*_: Any) -> None:
        raise MemoryError("too much")

    monkeypatch.setattr("pgembed.recommending.describe_expert", fail)
    told = pgembed("expert", "train", "other", *train, url=url)
    assert "Expert other is rejected: nDCG@10 changes by" in told.out
    assert "Expert other is stored, but not what it was trained on (MemoryError: too much)" in (
        told.err
    )
    assert "pgembed expert describe other --collection documents" in told.err


def test_a_training_that_was_stopped_goes_on(
    pgembed: Command, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From where it was, to the same expert; --fresh starts over."""
    monkeypatch.setenv("PGEMBED_CACHE", str(tmp_path))
    with connect(url) as connection:
        make_documents(connection)
        add_judgments(connection, "documents", judgments())
    train = ["expert", "train", "--collection", "documents", "--domain", "cipher", "--steps", "120"]
    pgembed(*train, "whole", url=url)
    real = descent.one_cycle

    def stopped(step: int, steps: int, highest: float) -> float:
        if step == 70:
            raise KeyboardInterrupt
        return real(step, steps, highest)

    with monkeypatch.context() as context:
        context.setattr(descent, "one_cycle", stopped)
        for _ in range(2):
            answer = pgembed(*train, "stopped", url=url)
            assert answer.status == 130
            assert "Training stopped at step 70. The same command goes on" in answer.err
    assert len(list((tmp_path / "trainings").glob("linear-*.npz"))) == 1
    assert "Going on after step 50" in pgembed(*train, "resumed", url=url).err
    assert not list((tmp_path / "trainings").iterdir())
    with connect(url) as connection:
        rows = connection.execute(
            "select count(distinct sha256) from pgembed.expert where kind = 'linear'"
        )
        assert rows.fetchone() == (1,)
    with monkeypatch.context() as context:
        context.setattr(descent, "one_cycle", stopped)
        pgembed(*train, "stopped", url=url)
    assert "Going on" not in pgembed(*train, "fresh", "--fresh", url=url).err


# Errors.

SEARCH, TRAIN = "search papers text", "expert train x --collection"
CREATE = "collection create x --encoder tiny --content"
ERRORS = {
    "search nope text": "there is no collection 'nope' Hint: Collections are 'papers'.",
    "search papers ''": "query text 0 is empty",
    f"{SEARCH} -k -1": "k is -1",
    f"{SEARCH} --mode nobody": 'no expert "nobody" Hint: known are base',
    f"{SEARCH} --filter {{": "the filter is not json",
    f"{SEARCH} --filter [1]": "a filter is a json object",
    f"{SEARCH} --filter '{{\"nope\": 1}}'": "Hint: Its columns are id, title",
    f'{SEARCH} --filter \'{{"year": "soon"}}\'': "is no integer",
    "sync nope": "there is no collection 'nope'",
    "collection drop nope --yes": "there is no collection 'nope'",
    "collection create papers --source papers --content title": "exists already",
    f"{CREATE} title --source pgembed_nope": "there is no table 'pgembed_nope'",
    f"{CREATE} title --source 'a b;c'": "there is no table 'a b;c'",
    f"{CREATE} nope --source papers": "nope",
    f"{CREATE} title --source papers --max-tokens 9999": "takes 8 to 128",
    "encoder add x /nowhere": "there is no encoder /nowhere",
    f"{TRAIN} nope": "there is no collection 'nope'",
    f"{TRAIN} papers": "no judgments",
    f"{TRAIN} papers --rank 0": "is too small",
    f"{TRAIN} papers --source clicks": "has no clicks of rows that are embedded Hint: Log",
    "expert show base --encoder tiny --plot x.nonsense": "no format of pictures",
    "expert show base --encoder tiny --plot x.png": "has no curve to draw",
    "expert show nope --encoder tiny": "has no expert 'nope' Hint: Its experts are base",
    "expert retire nope --encoder tiny": "has no expert 'nope'",
    "expert retire base --encoder tiny": "base cannot be retired",
    "router build --collection papers": "no judgments",
    "router build --collection papers --labels x": "--labels is instance or domain",
    "router build --collection papers --kind fixed": "needs the weights of its experts",
    "router build --collection papers --kind fixed --weight x": "--weight is an expert and a number",
    "router build --collection papers --kind fixed --weight x=nan": "a number from 0, not 'x=nan'",
    "router add nope --collection papers": "no judgments",
    "router show --encoder nope": "there is no encoder 'nope'",
}


@pytest.fixture(scope="module")
def readable_url(database_url: str, template: str) -> Iterator[str]:
    """A database with ``papers`` that the tests below do not change."""
    with copied_database(database_url, template, "pgembed_test_cli_errors") as made:
        with connect(made) as connection:
            make_papers(connection)
        yield made


@pytest.mark.parametrize("line", ERRORS)
def test_errors_are_a_sentence_on_standard_error(
    pgembed: Command, readable_url: str, line: str
) -> None:
    """With a hint where there is one, exit status 1, and nothing else: no traceback."""
    answer = pgembed(*shlex.split(line), url=readable_url)
    assert answer.status == 1
    assert ERRORS[line] in answer.err
    assert "pgembed: " in answer.err
    assert "Traceback" not in answer.err + answer.out
    assert answer.out == ""


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://nobody@127.0.0.1:1/x",
        "postgresql+psycopg://user@host/db",
        "no url at all",
        "host=/nowhere",
    ],
)
@pytest.mark.parametrize("command", [["collection", "list"], ["migrate"]], ids=" ".join)
def test_a_server_that_is_not_there_is_said_so(
    pgembed: Command, command: list[str], url: str
) -> None:
    """In our words, with libpq's reason and a way out."""
    answer = pgembed(*command, url=url)
    assert answer.status == 1
    assert answer.err.startswith("pgembed: cannot connect to PostgreSQL: ")
    assert "pgembed server start" in answer.err


def test_a_database_without_the_schema_says_how_to_install_it(
    pgembed: Command, database_url: str
) -> None:
    """Rather than that a function is missing."""
    answer = pgembed("sync", url=with_database(database_url, "postgres"))
    assert answer.status == 1
    assert "Hint: Install or upgrade it: pgembed migrate" in answer.err


def test_a_refusal_by_the_server_is_a_sentence_too(pgembed: Command, copied: str) -> None:
    """As of a user without privileges."""
    with connect(copied) as connection:
        connection.execute("drop role if exists pgembed_test_nobody")
        connection.execute("create role pgembed_test_nobody login password 'x'")
    try:
        url = psycopg.conninfo.make_conninfo(copied, user="pgembed_test_nobody", password="x")
        answer = pgembed("collection", "list", url=url)
        assert answer.status == 1
        assert "pgembed: permission denied for schema pgembed" in answer.err
    finally:
        with connect(copied) as connection:
            connection.execute("drop role pgembed_test_nobody")


def test_wrong_usage_has_another_status(pgembed: Command) -> None:
    """An unknown option or command, or a missing argument."""
    for arguments in (["nope"], ["search"], ["sync", "--nope"], ["search", "a", "b", "-k", "x"]):
        answer = pgembed(*arguments)
        assert answer.status == 2
        assert "Traceback" not in answer.err


def test_ctrl_c_says_that_nothing_is_lost(
    pgembed: Command, papers_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit status 130, as the shell expects."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pgembed.syncing.sync", interrupted)
    answer = pgembed("sync", "papers", url=papers_url)
    assert answer.status == 130
    assert "What was finished is kept" in answer.err

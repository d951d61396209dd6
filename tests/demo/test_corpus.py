"""The demo's tables and judged queries: the same everywhere, and no query gives itself away."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgembed.database import Connection, connect
from pgembed.demo.corpus_postgres import PostgresEntry, postgres_entries, setting_id
from pgembed.demo.corpus_python import PythonEntry, python_entries
from pgembed.demo.judgments import (
    ALIKE,
    BOILERPLATE,
    MOST_ANSWERS,
    families,
    postgres_judgments,
    python_judgments,
    split_of,
)
from pgembed.demo.loading import load_postgres, load_python
from pgembed.demo.python_modules import MODULES
from pgembed.demo.wording import (
    LONGEST_CONTENT,
    cleaned,
    masked,
    normalised,
    shortened,
    split_first_sentence,
)
from pgembed.model import Judgment

Entries = Sequence[PythonEntry] | Sequence[PostgresEntry]

DIGEST = """
import hashlib
from pgembed.demo.corpus_python import python_entries
from pgembed.demo.judgments import python_judgments
entries = python_entries()
print(hashlib.sha256(repr((entries, python_judgments(entries))).encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def python() -> list[PythonEntry]:
    """Everything that the running Python documents."""
    return python_entries()


@pytest.fixture
def rolled_back(database_url: str) -> Iterator[Connection]:
    """A connection whose changes are undone."""
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        yield connection


@pytest.fixture(scope="module")
def postgres(database_url: str) -> list[PostgresEntry]:
    """Everything that the test's server documents."""
    with connect(database_url) as connection:
        return postgres_entries(connection)


@pytest.fixture(scope="module", params=["python", "postgres"])
def domain(request: pytest.FixtureRequest) -> str:
    """Each of the two domains."""
    return str(request.param)


@pytest.fixture(scope="module")
def entries(domain: str, python: list[PythonEntry], postgres: list[PostgresEntry]) -> Entries:
    """The entries of the domain."""
    return python if domain == "python" else postgres


@pytest.fixture(scope="module")
def judgments(
    domain: str, python: list[PythonEntry], postgres: list[PostgresEntry]
) -> list[Judgment]:
    """The judged queries of the domain."""
    return python_judgments(python) if domain == "python" else postgres_judgments(postgres)


def digest(hash_seed: int) -> str:
    """What another process makes of the same Python."""
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run(
        [sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.strip()


def test_two_processes_read_the_same_python() -> None:
    """Neither hash order nor memory addresses reach an entry or a judgment."""
    assert digest(1) == digest(2)


def test_the_catalog_reads_the_same_twice(
    postgres: list[PostgresEntry], rolled_back: Connection
) -> None:
    """Another session sees the same entries, also after a table and a function were added."""
    rolled_back.execute("create table mine (id int)")
    rolled_back.execute("create function mine() returns int return 1")
    assert postgres_entries(rolled_back) == postgres


def test_reading_python_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Modules that greet, warn or open windows when imported are left out or silenced."""
    python_entries()
    assert capfd.readouterr() == ("", "")


def test_modules_are_listed_in_order_and_act_on_nothing() -> None:
    """The list is fixed and alphabetical, and leaves out what acts when imported."""
    assert list(MODULES) == sorted(set(MODULES))
    assert not {"this", "antigravity", "tkinter", "turtle", "idlelib", "test"} & set(MODULES)


def test_python_entries_are_many_and_distinct(python: list[PythonEntry]) -> None:
    """About two thousand entries of three kinds, numbered in order, each name and text once."""
    assert 1_500 <= len(python) <= 4_500
    assert [entry.id for entry in python] == list(range(1, len(python) + 1))
    places = [(entry.module, entry.name) for entry in python]
    assert places == sorted(set(places))
    assert max(Counter(normalised(entry.doc) for entry in python).values()) == 1
    assert min(Counter(entry.kind for entry in python).values()) > 200
    assert {entry.python for entry in python} == {f"3.{sys.version_info.minor}"}
    assert any(entry.deprecated for entry in python)


def test_a_python_entry_states_its_facts(python: list[PythonEntry]) -> None:
    """A well-known function has the attributes that filters use."""
    found = next(entry for entry in python if (entry.module, entry.name) == ("textwrap", "fill"))
    assert (found.kind, found.deprecated) == ("function", False)
    assert found.signature.startswith("(text, width=70")
    assert found.summary == "Fill a single paragraph of text, returning a new string."
    assert found.content.startswith("textwrap (text, width, **kwargs): Reformat the single")


def test_a_limit_takes_some_of_every_part(python: list[PythonEntry]) -> None:
    """A smaller demo has the same entries under the same numbers, from first to last."""
    few = python_entries(limit=100)
    assert len(few) == 100
    assert set(few) <= set(python)
    assert len({entry.module for entry in few}) > 40


def test_postgres_entries_are_many_and_distinct(postgres: list[PostgresEntry]) -> None:
    """Functions, types and settings, each under a number of its own that no session changes."""
    assert 1_500 <= len(postgres) <= 3_500
    numbers = [entry.id for entry in postgres]
    assert numbers == sorted(set(numbers))
    kinds = Counter(entry.kind for entry in postgres)
    assert kinds["function"] > 1_000
    assert kinds["setting"] > 250
    assert min(kinds["aggregate"], kinds["type"], kinds["window"]) > 5
    for entry in postgres:
        assert entry.id == setting_id(entry.name) if entry.kind == "setting" else entry.id < 16384


def test_a_postgres_entry_states_its_facts(postgres: list[PostgresEntry]) -> None:
    """A well-known function has the attributes that filters use; its oid is everywhere the same."""
    found = next(entry for entry in postgres if entry.id == 1299)
    assert found.schema == "pg_catalog"
    assert (found.name, found.kind, found.argument_types) == ("now", "function", ())
    assert (found.strict, found.volatility, found.returns_set) == (True, "stable", False)
    assert found.summary == "current transaction time"
    assert found.content == "function now () returns timestamp with time zone, stable"


def test_contents_can_be_stored_and_embedded(entries: Entries) -> None:
    """Every text is valid UTF-8 without NUL, and a content is neither empty nor too long."""
    for entry in entries:
        texts = [value for value in dataclasses.astuple(entry) if isinstance(value, str)]
        assert not any("\0" in text for text in texts)
        assert "".join(texts).encode()
        assert 0 < len(entry.content) <= LONGEST_CONTENT


def test_no_python_entry_names_itself(python: list[PythonEntry]) -> None:
    """The own name is neither in the query nor, in any case, in the content."""
    for entry in python:
        own_name = re.escape(entry.name.rpartition(".")[2])
        assert not re.search(rf"\b{own_name}\b", entry.summary)
        assert not re.search(rf"\b{own_name}\b", entry.content, re.IGNORECASE)


def test_no_postgres_query_names_its_answer(postgres: list[PostgresEntry]) -> None:
    """The own name is not in the query, in any case and written out neither."""
    for entry in postgres:
        own_name = re.escape(entry.name).replace("_", "[ _-]*")
        assert not re.search(rf"(?<!\w){own_name}(?!\w)", entry.summary, re.IGNORECASE)


def test_queries_do_not_stand_in_their_answers(entries: Entries, judgments: list[Judgment]) -> None:
    """No search can find an answer by the copy of what it was asked."""
    contents = {str(entry.id): f" {normalised(entry.content)} " for entry in entries}
    for judgment in judgments:
        assert f" {normalised(judgment.query)} " not in contents[judgment.key]


def test_judgments_are_many_and_modest(domain: str, judgments: list[Judgment]) -> None:
    """Some 300 test queries and many more to train on; few answers to each, none twice."""
    splits = Counter(split for _, split in {(row.query, row.split) for row in judgments})
    assert splits["test"] >= 250
    assert splits["dev"] >= 200
    assert 0.5 <= splits["train"] / splits.total() <= 0.7
    assert {(row.domain, row.grade) for row in judgments} == {(domain, 1)}
    assert len({(row.query, row.key) for row in judgments}) == len(judgments)
    assert max(Counter(row.query for row in judgments).values()) <= MOST_ANSWERS


def test_no_query_resembles_one_of_another_split(judgments: list[Judgment]) -> None:
    """What is tested was not trained on in other words or another order."""
    texts: defaultdict[str, set[str]] = defaultdict(set)
    for row in judgments:
        texts[row.split].add(normalised(row.query))
    sets = {split: [set(text.split()) for text in found] for split, found in texts.items()}
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        for a in sets[one]:
            assert all(len(a & b) < ALIKE * len(a | b) for b in sets[other])


def test_boilerplate_is_never_asked(postgres: list[PostgresEntry]) -> None:
    """Such as "I/O" and "aggregate transition function": no user looks for that."""
    described = {str(entry.id): entry.description for entry in postgres}
    assert not any(BOILERPLATE.search(described[row.key]) for row in postgres_judgments(postgres))


def test_a_shared_description_is_graded_to_all(postgres: list[PostgresEntry]) -> None:
    """Overloads that the description does not tell apart are all answers."""
    rows = postgres_judgments(postgres)
    named = {str(entry.id): entry.name for entry in postgres}
    answers = Counter(named[row.key] for row in rows if row.query == "greatest common divisor")
    assert answers == {"gcd": 3}


def test_splits_are_a_promise() -> None:
    """The hash gives these splits on every machine, in every release."""
    splits = [split_of(text) for text in ("close the file", "open a file", "sum", "age", "a", "b")]
    assert splits == ["train", "test", "train", "train", "dev", "train"]


@given(st.sets(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5).map(" ".join)))
def test_families_are_what_similarity_connects(texts: set[str]) -> None:
    """The matrix arithmetic finds the components that a walk from text to text finds."""

    def alike(one: str, other: str) -> bool:
        a, b = set(one.split()), set(other.split())
        return len(a & b) >= ALIKE * len(a | b)

    def reached(text: str) -> set[str]:
        found, waiting = {text}, [text]
        while waiting:
            here = waiting.pop()
            new = {other for other in texts - found if alike(here, other)}
            found, waiting = found | new, [*waiting, *new]
        return found

    assert families(sorted(texts, reverse=True)) == {text: min(reached(text)) for text in texts}


@given(st.text(st.characters(exclude_categories=())))
def test_cleaned_text_can_be_stored(text: str) -> None:
    """Whatever a docstring holds, PostgreSQL accepts what is left of it."""
    assert "\0" not in cleaned(text).encode().decode()


@given(st.text("ab _-.\n", max_size=40), st.sampled_from(["a", "ab", "a_b", "b_a_"]))
def test_a_masked_name_is_gone(text: str, name: str) -> None:
    """No whole-word occurrence is left, in either case."""
    left = masked(text, name, ignore_case=True)
    assert not re.search(rf"(?<!\w){name.strip('_')}(?!\w)", left, re.IGNORECASE)


@given(st.text(), st.integers(1, 50))
def test_shortened_text_is_a_short_beginning(text: str, longest: int) -> None:
    """Never longer than asked for, and never other words."""
    short = shortened(text, longest)
    assert len(short) <= longest or short == text
    assert text.startswith(short) or text.lstrip().startswith(short)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Close it.  Then wait.", ("Close it.", "Then wait.")),
        ("Open a file\nand read it.", ("Open a file and read it.", "")),
        ("A title\n\nThe rest.", ("A title", "The rest.")),
        ("Some, e.g. this one. More.", ("Some, e.g. this one.", "More.")),
        ("Read sys.stdin. More.", ("Read sys.stdin.", "More.")),
        ("Is it open? Yes.", ("Is it open?", "Yes.")),
        ("", ("", "")),
    ],
)
def test_the_first_sentence_ends_where_a_reader_ends_it(
    text: str, expected: tuple[str, str]
) -> None:
    """At a full stop or a blank line, not within a name or an abbreviation."""
    assert split_first_sentence(text) == expected


def test_tables_hold_exactly_what_was_loaded(
    python: list[PythonEntry], postgres: list[PostgresEntry], rolled_back: Connection
) -> None:
    """Both tables give back every field of every entry."""
    assert load_python(rolled_back, python) == len(python)
    assert load_postgres(rolled_back, postgres) == len(postgres)
    rows = rolled_back.execute("select * from demo.python_doc order by id").fetchall()
    assert [PythonEntry(*row) for row in rows] == python
    rows = rolled_back.execute("select * from demo.postgres_doc order by id").fetchall()
    tuples = [tuple(tuple(v) if isinstance(v, list) else v for v in row) for row in rows]
    assert [PostgresEntry(*row) for row in tuples] == postgres


def test_loading_again_writes_only_what_differs(
    python: list[PythonEntry], rolled_back: Connection
) -> None:
    """A second load touches no row, so nothing that was embedded becomes stale."""
    load_python(rolled_back, python)
    assert load_python(rolled_back, python) == 0
    changed = [dataclasses.replace(python[0], content="new"), *python[2:]]
    assert load_python(rolled_back, changed) == 2
    rows = rolled_back.execute("select content from demo.python_doc order by id limit 2").fetchall()
    assert rows == [("new",), (python[2].content,)]


def test_a_failed_load_leaves_the_table_as_it_was(
    python: list[PythonEntry], rolled_back: Connection
) -> None:
    """An entry that cannot be stored undoes the whole load, and no more than that."""
    load_python(rolled_back, python[:3])
    with pytest.raises(psycopg.DataError):
        load_python(rolled_back, [python[0], dataclasses.replace(python[1], doc="a\0b")])
    assert rolled_back.execute("select count(*) from demo.python_doc").fetchone() == (3,)

"""pgembed.search and what goes with it, for a query text."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

import pgembed
from pgembed.database import Connection, connect
from pgembed.errors import FilterError, InputError, NotFoundError, WorkerError
from pgembed.searching import search as python_search
from tests.databases import url_of
from tests.sql.support import as_literal, column, refused, scalar
from tests.sql.test_encode import as_role
from tests.sql.texts import Worker

KEYS = "select key, score from pgembed.search('papers', 'red apple'{}) order by rank"


def found(connection: Connection, rest: str = "") -> list[tuple[Any, ...]]:
    """Keys and scores of a search with a text."""
    return connection.execute(KEYS.format(rest).encode()).fetchall()


@pytest.mark.parametrize(
    ("rest", "options"),
    [
        ("", {}),
        (", 3", {"k": 3}),
        (", k => 60, mode => 'base'", {"k": 60, "mode": "base"}),
        (
            ', filter => \'{"year": {"gte": 2010}}\', "offset" => 2',
            {"filter": {"year": {"gte": 2010}}, "offset": 2},
        ),
        (", hybrid => true", {"hybrid": True}),
        (
            ", hybrid => true, lexical_weight => 0.7, fusion => 'rrf'",
            {"hybrid": True, "lexical_weight": 0.7, "fusion": "rrf"},
        ),
        (", exclude => '{green pear,slow train}'", {"exclude": ["green pear", "slow train"]}),
        (", group_by => 'topic', per_group => 2", {"group_by": "topic", "per_group": 2}),
        (", min_score => 0.3, columns => '{topic}'", {"min_score": 0.3, "columns": ["topic"]}),
    ],
)
def test_it_finds_what_python_finds(
    texts: Connection, worker: Worker, rest: str, options: dict[str, Any]
) -> None:
    """The same hits and scores as pgembed.search in Python, for every option."""
    expected = python_search(texts, "papers", "red apple", **options)
    assert [key for key, _ in found(texts, rest)] == [hit.key for hit in expected]
    assert [score for _, score in found(texts, rest)] == pytest.approx(
        [hit.score for hit in expected], abs=1e-5
    )


def test_one_search_asks_once_for_each_text(texts: Connection, worker: Worker) -> None:
    """The query and what is excluded, each by one request; the next search asks for nothing."""
    found(texts, ", exclude => '{green pear}', hybrid => true")
    assert worker.asked == ["green pear", "red apple"]
    found(texts, ", 5")
    assert worker.asked == ["green pear", "red apple"]


def test_an_untyped_literal_is_a_text(texts: Connection, worker: Worker) -> None:
    """A vector says its type, by a cast or by where it comes from."""
    scalar(texts, "select count(*) from pgembed.search('papers', '[1, 2]')")
    assert worker.asked == ["[1, 2]"]
    error = refused(texts, InputError, "select pgembed.search('papers', '[1, 2]'::vector)")
    assert "2 dimensions" in str(error)
    refused(texts, InputError, "select pgembed.search('papers', null)")


def test_a_cursor_leads_to_the_next_page(texts: Connection, worker: Worker) -> None:
    """Pages of a search with a text follow each other as one longer search."""
    whole = column(texts, "select key from pgembed.search('papers', 'red apple', 6) order by rank")
    first = texts.execute(
        "select key, cursor from pgembed.search('papers', 'red apple', 3) order by rank"
    ).fetchall()
    rest = column(
        texts,
        "select key from pgembed.search('papers', 'red apple', 3, after => %s) order by rank",
        (psycopg.types.json.Jsonb(first[-1][1]),),
    )
    assert [key for key, _ in first] + rest == whole


def test_arguments_are_checked(texts: Connection, worker: Worker) -> None:
    """The errors are those of a search with a vector, and of encode."""
    for rest, error, said in (
        (", filter => '{\"nope\": 1}'", FilterError, "nope"),
        (", -1", InputError, "0 or more"),
        (", mode => 'nope'", NotFoundError, "'nope'"),
        (", exclude => array[null]", InputError, "null"),
        (", exclude => '{\"\"}'", InputError, "empty"),
    ):
        assert said in str(refused(texts, error, KEYS.format(rest).encode()))


def test_without_a_worker_it_says_so(texts: Connection) -> None:
    """The hint is the command that helps."""
    error = refused(texts, WorkerError, KEYS.format("").encode())
    assert "pgembed worker" in str(error.hint)


def test_typed_keys(texts: Connection, worker: Worker) -> None:
    """search_<collection> takes a text too, with keys in their own type, and joins."""
    rows = texts.execute(
        "select p.id::text, s.score from pgembed.search_papers('red apple', k => 4, mode => 'base',"
        " hybrid => true) as s join papers as p on p.id = s.id order by s.rank"
    ).fetchall()
    assert rows == found(texts, ", 4, mode => 'base', hybrid => true")


def test_explain_tells_where_the_vector_came_from(
    texts: Connection, texts_url: str, worker: Worker
) -> None:
    """From a worker, then from the memo; in another session from the cache; route and hits follow."""
    explain = "select step, name, data from pgembed.explain_search('papers', 'red apple', 3)"

    def told(connection: Connection) -> dict[str, Any]:
        rows = connection.execute(explain).fetchall()
        assert [step for step, _, _ in rows] == list(range(1, len(rows) + 1))
        return {name: data for _, name, data in rows}

    first = told(texts)
    assert list(first) == ["encode", "route", "filter", "plan", "dense arm", "hits"]
    assert first["encode"]["source"] == "worker"
    assert 0 < first["encode"]["ms"] < 5000
    assert first["route"] == {"base": {"weight": 1, "score": None}}
    assert [hit["key"] for hit in first["hits"]] == [key for key, _ in found(texts, ", 3")]
    assert told(texts)["encode"]["source"] == "memo"
    with connect(texts_url) as another:
        told(another)
    with connect(texts_url) as another:
        assert told(another)["encode"]["source"] == "cache"


def test_fresh_waits_for_what_was_changed(texts: Connection, worker: Worker) -> None:
    """A row that was written before the search is found by its new text, once it is embedded."""
    texts.execute("update papers set title = 'zebra crossing' where id = 17")
    try:
        syncing = threading.Timer(0.3, lambda: sync_once(texts))
        syncing.start()
        started = time.monotonic()
        hits = texts.execute(
            "select key from pgembed.search('papers', 'zebra crossing', 1, fresh => true)"
        ).fetchall()
        assert time.monotonic() - started >= 0.2
        syncing.join()
        assert hits == [("17",)]
    finally:
        texts.execute("update papers set title = 'slow train number 17' where id = 17")
        sync_once(texts)


def sync_once(connection: Connection) -> None:
    """Embed what is stale in a session of its own."""
    with connect(url_of(connection)) as syncing:
        pgembed.sync(syncing, "papers")


@pytest.fixture
def reader(texts: Connection, texts_url: str) -> Iterator[Connection]:
    """A role with the grants of docs/operations.md for a reader, that for texts excepted."""
    name = "pgembed_test_text_reader"
    texts.execute(f"create role {name} login password 'secret'")
    texts.execute(f"grant usage on schema pgembed, pgembed_data to {name}")
    texts.execute(
        "grant select on pgembed.collection, pgembed.encoder, pgembed.expert, pgembed.pilot,"
        " pgembed.router, pgembed.lexeme, pgembed.lexical_statistics, pgembed.fusion,"
        f" pgembed.planner_cost to {name}"
    )
    texts.execute(f"grant select on pgembed_data.papers, papers to {name}")
    try:
        with connect(as_role(texts_url, name, "secret")) as connection:
            yield connection
    finally:
        texts.execute(f"drop owned by {name}")
        texts.execute(f"drop role {name}")


def test_one_grant_lets_a_reader_search_by_text(
    texts: Connection, worker: Worker, reader: Connection
) -> None:
    """Execute on ask_worker is what it takes; tables of texts and password stay closed."""
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="ask_worker"):
        found(reader)
    texts.execute(
        "grant execute on function pgembed.ask_worker(text, text, text) to pgembed_test_text_reader"
    )
    assert found(reader, ", hybrid => true") == found(texts, ", hybrid => true")
    for table in ("loopback", "encode_request", "encode_cache"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(f"table pgembed.{table}".encode())


def test_a_vector_that_was_encoded_is_one_that_searches(texts: Connection, worker: Worker) -> None:
    """pgembed.encode composes with the search for a vector."""
    composed = texts.execute(
        "select key, score from pgembed.search('papers', pgembed.encode('papers', 'red apple'))"
        " order by rank"
    ).fetchall()
    assert composed == found(texts)
    given = scalar(texts, "select pgembed.encode('papers', 'red apple')::real[]")
    literal = as_literal(given)
    assert texts.execute(
        "select key, score from pgembed.search('papers', %s::vector) order by rank", (literal,)
    ).fetchall() == found(texts)

"""pgembed.refresh, and the statistics of BM25 that batches keep."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgembed.database import Connection, connect
from pgembed.errors import NotFoundError
from tests.reference import bm25
from tests.sql.support import create_collection, embed, refused, scalar

WORDS = ["tree", "stone", "river", "cloud", "bird", "the", "grass", "moon"]
"""One of them is a stop word."""

COUNTED = "select lexeme, documents from pgembed.lexeme where collection = 'notes' order by lexeme"
STATISTICS = (
    "select documents, length, average_length from pgembed.lexical_statistics"
    " where collection = 'notes'"
)


def make_notes(connection: Connection, texts: list[str], chunk_length: int = 10_000) -> None:
    """Table and collection ``notes``, embedded; ids count from 1."""
    connection.execute("create table notes (id int primary key, body text)")
    connection.execute(
        "insert into notes select place, body from unnest(%s::text[]) with ordinality as n (body, place)",
        (texts,),
    )
    create_collection(connection, "notes", "notes", ["body"])
    embed(connection, "notes", chunk_length=chunk_length)


def words_of(connection: Connection) -> dict[str, list[list[str]]]:
    """The words of every chunk of ``notes``, as often as they stand there."""
    rows = connection.execute(
        "select id::text, (select array_agg(t.lexeme) from unnest(lexemes) as t, unnest(t.positions))"
        " from pgembed_data.notes order by id, chunk_no"
    ).fetchall()
    found: dict[str, list[list[str]]] = {}
    for key, words in rows:
        found.setdefault(key, []).append(words or [])
    return found


def lexical(connection: Connection, words: str, k: int = 100) -> dict[str, float]:
    """Keys and scores of the lexical arm."""
    row = connection.execute(
        "select a.keys, a.scores from pgembed.collection as c,"
        " pgembed.lexical_arm(c, %s, %s, null) as a where c.name = 'notes'",
        (words, k),
    ).fetchone()
    assert row is not None
    return dict(zip(*row, strict=True))


texts = st.lists(
    st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join), min_size=1, max_size=25
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bodies=texts,
    query=st.lists(st.sampled_from([*WORDS, "absent"]), max_size=7),
    k=st.integers(1, 30),
)
def test_the_lexical_arm_is_bm25(
    shared: Connection, bodies: list[str], query: list[str], k: int
) -> None:
    """Scores and order are those of BM25 written plainly, whatever the texts and the words are."""
    with shared.transaction(force_rollback=True):
        make_notes(shared, bodies, chunk_length=60)
        average = scalar(
            shared,
            "select average_length from pgembed.lexical_statistics where collection = 'notes'",
        )
        said = [word for word in query if word != "the"]
        expected = bm25(words_of(shared), said, average)
        found = lexical(shared, " ".join(query), k)
        best = sorted(expected.values(), reverse=True)[:k]
        assert list(found.values()) == pytest.approx(best, rel=1e-4)
        assert found == pytest.approx({key: expected[key] for key in found}, rel=1e-4)


def test_rare_words_leave_common_rows_out(shared: Connection) -> None:
    """Rows with common words only are not looked at where they cannot win, and are where they can."""
    bodies = ["tree stone"] * 200 + ["river tree"] * 12 + ["cloud"]
    make_notes(shared, bodies)
    told = scalar(
        shared,
        "select a.detail from pgembed.collection as c,"
        " pgembed.lexical_arm(c, 'cloud river tree', 1, null) as a where c.name = 'notes'",
    )
    assert told == "rows with any of the 2 rarest of 3 words"
    assert set(lexical(shared, "cloud river tree", 13)) == {str(n) for n in range(201, 214)}
    assert len(lexical(shared, "cloud river tree", 1000)) == 213


def test_every_batch_is_counted(shared: Connection) -> None:
    """New, changed and shorter rows: after each batch frequencies are those of the chunks."""
    make_notes(shared, ["tree stone", "tree river", "cloud"])
    assert shared.execute(COUNTED).fetchall() == [
        ("cloud", 1),
        ("river", 1),
        ("stone", 1),
        ("tree", 2),
    ]
    assert shared.execute(STATISTICS).fetchone() == (3, 5, pytest.approx(5 / 3))
    shared.execute("update notes set body = 'bird tree bird' where id = 1")
    shared.execute("insert into notes values (4, 'moon')")
    embed(shared, "notes")
    counted = {lexeme: documents for lexeme, documents in shared.execute(COUNTED) if documents}
    assert counted == {"bird": 1, "cloud": 1, "moon": 1, "river": 1, "tree": 2}
    assert shared.execute(STATISTICS).fetchone() == (4, 7, pytest.approx(5 / 3))


def test_deleted_rows_count_until_a_refresh(shared: Connection) -> None:
    """As in Lucene, a deletion leaves the frequencies alone; refresh counts what is there."""
    make_notes(shared, ["tree stone", "tree river", "cloud bird"])
    shared.execute("delete from notes where id = 1")
    assert shared.execute(STATISTICS).fetchone() == (3, 6, 2)
    told = shared.execute("select * from pgembed.refresh('notes')").fetchone()
    assert told == (2, 4, 2, 0)
    assert shared.execute(COUNTED).fetchall() == [
        ("bird", 1),
        ("cloud", 1),
        ("river", 1),
        ("tree", 1),
    ]


def test_weights_follow_a_length_that_moved(shared: Connection) -> None:
    """Where chunks became 10 % longer on average, all of them are weighed again."""
    make_notes(shared, ["tree stone", "tree river"])
    before = scalar(shared, "select bm25::text from pgembed_data.notes where id = 1")
    shared.execute("insert into notes values (3, %s)", ("cloud bird moon river grass " * 4,))
    embed(shared, "notes")
    assert scalar(shared, "select bm25::text from pgembed_data.notes where id = 1") == before
    told = shared.execute("select * from pgembed.refresh('notes')").fetchone()
    assert told == (3, 7, 8, 3)
    assert scalar(shared, "select bm25::text from pgembed_data.notes where id = 1") != before
    assert shared.execute("select * from pgembed.refresh('notes')").fetchone() == (3, 7, 8, 0)


def test_weights_that_are_missing_are_made(shared: Connection) -> None:
    """A bulk loader that writes chunks itself leaves the weights to refresh."""
    shared.execute("update pgembed_data.papers set bm25 = null where id <= 7")
    assert scalar(shared, "select rewritten from pgembed.refresh('papers')") == 7
    assert scalar(shared, "select count(*) from pgembed_data.papers where bm25 is null") == 0


def test_an_empty_collection_can_be_refreshed(shared: Connection) -> None:
    """Nothing to count is no error, and an unknown collection is one."""
    shared.execute("create table empty_notes (id int primary key, body text)")
    create_collection(shared, "empty_notes", "empty_notes", ["body"])
    assert scalar(shared, "select documents from pgembed.refresh('empty_notes')") == 0
    refused(shared, NotFoundError, "select pgembed.refresh('nope')")


def test_the_language_of_a_collection_counts(shared: Connection) -> None:
    """Words are those of the collection's text search configuration."""
    shared.execute("create table saetze (id int primary key, body text)")
    shared.execute("insert into saetze values (1, 'die Häuser am Fluss'), (2, 'ein Haus')")
    create_collection(shared, "saetze", "saetze", ["body"], language="german")
    embed(shared, "saetze")
    vector = "[" + ",".join(map(str, np.ones(32))) + "]"
    found = shared.execute(
        "select key from pgembed.search('saetze', %s::vector, hybrid => true, query_text => 'Haus',"
        " lexical_weight => 1) where lexical_score > 0",
        (vector,),
    ).fetchall()
    assert {key for (key,) in found} == {"1", "2"}


def test_writers_and_a_refresh_take_turns(migrated_url: str) -> None:
    """Neither a deadlock nor a weight of the old length, whoever comes first."""
    with connect(migrated_url) as connection:
        make_notes(connection, [f"tree stone {n}" for n in range(200)])
        connection.execute("select pgembed.build_index('notes')")
        connection.execute("update notes set body = body || %s", (" cloud bird moon river" * 5,))

        def write() -> None:
            with connect(migrated_url) as writer:
                embed(writer, "notes")

        def refresh() -> None:
            with connect(migrated_url) as other:
                for _ in range(5):
                    other.execute("select pgembed.refresh('notes')")

        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(write), pool.submit(refresh)]:
                done.result()
        connection.execute("select pgembed.refresh('notes')")
        wrong = scalar(
            connection,
            "select count(*) from pgembed_data.notes as d, pgembed.lexical_statistics as s"
            " where s.collection = 'notes' and d.bm25 <> pgembed.bm25_weights(d.lexemes, s.average_length)",
        )
        assert wrong == 0
        counted = connection.execute(COUNTED).fetchall()
        assert (
            counted
            == connection.execute(
                "select word, ndoc from ts_stat('select lexemes from pgembed_data.notes') order by word collate \"C\""
            ).fetchall()
        )

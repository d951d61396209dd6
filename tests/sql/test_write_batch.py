"""pgembed.write_batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest

from pgembed.database import Connection
from pgembed.errors import NotFoundError
from tests.sql.support import (
    column,
    create_collection,
    embed,
    refused,
    scalar,
    second_session,
    stage,
    stale_keys,
    vector_of,
)

CHUNKS = "select chunk_no, content from pgembed_data.papers where id = {} order by chunk_no"


def claim(connection: Connection, claimer: int = 1) -> dict[str, int]:
    """Version of each claimed row."""
    rows = connection.execute(
        "select key, version from pgembed.claim('papers', %s, 1000)", (claimer,)
    ).fetchall()
    return dict(rows)


def write(
    connection: Connection,
    versions: dict[str, int],
    texts: dict[str, Sequence[str]],
    *,
    claimer: int = 1,
    encoded: bool = True,
) -> int:
    """Write these chunks for these rows; without vectors where they are not ``encoded``."""
    with connection.transaction():
        stage(
            connection,
            [
                (
                    key,
                    number,
                    text,
                    hashlib.sha256(text.encode()).digest(),
                    vector_of(text, 32).tolist() if encoded else None,
                )
                for key, pieces in texts.items()
                for number, text in enumerate(pieces)
            ],
        )
        written = scalar(
            connection,
            "select pgembed.write_batch('papers', %s, %s::text[], %s::bigint[])",
            (claimer, list(versions), list(versions.values())),
        )
        connection.execute("delete from pg_temp.pgembed_staging")
    return int(written)


@pytest.fixture
def three(shared: Connection) -> Connection:
    """Papers 1, 2 and 3 are stale."""
    shared.execute("update papers set title = 'changed ' || id where id <= 3")
    return shared


def test_chunks_replace_those_that_were(three: Connection) -> None:
    """The row has exactly the chunks that were sent, and is no longer stale."""
    versions = claim(three)
    assert write(three, versions, {"1": ["a", "b", "c"], "2": ["d"], "3": ["e", "f"]}) == 3
    assert three.execute(CHUNKS.format(1)).fetchall() == [(0, "a"), (1, "b"), (2, "c")]
    assert stale_keys(three, "papers") == []
    three.execute("update papers set title = 'again' where id = 1")
    assert write(three, claim(three), {"1": ["a", "x"]}) == 1
    assert three.execute(CHUNKS.format(1)).fetchall() == [(0, "a"), (1, "x")]
    assert scalar(three, "select count(*) from pgembed_data.papers where id > 3") == 57


def test_spans_and_words_follow(three: Connection) -> None:
    """The span is of the content, and the words are findable at once."""
    assert write(three, {"1": claim(three)["1"]}, {"1": ["zyzzyva sighted"]}) == 1
    row = three.execute(
        "select lower(span), upper(span), lexemes @@ 'zyzzyva', encoded_at is not null"
        " from pgembed_data.papers where id = 1"
    ).fetchone()
    assert row == (0, 15, True, True)


def test_an_equal_chunk_keeps_its_embedding(three: Connection) -> None:
    """A chunk whose hash exists is sent without vector, and may move to another number."""
    versions = claim(three)
    write(three, versions, {"1": ["one", "two"], "2": ["x"], "3": ["y"]})
    before = dict(
        three.execute(
            "select content, embedding::text from pgembed_data.papers where id = 1"
        ).fetchall()
    )
    three.execute("update papers set title = 'again' where id = 1")
    assert write(three, claim(three), {"1": ["two", "one", "two"]}, encoded=False) == 1
    rows = three.execute(
        "select content, embedding::text from pgembed_data.papers where id = 1 order by chunk_no"
    ).fetchall()
    assert rows == [(text, before[text]) for text in ("two", "one", "two")]


def test_an_unchanged_chunk_is_not_rewritten(three: Connection) -> None:
    """Its row stays as it is, so that the index has nothing to do."""
    write(three, claim(three), {"1": ["one", "two"], "2": ["x"], "3": ["y"]})
    place = "select ctid::text from pgembed_data.papers where id = 1 order by chunk_no"
    before = column(three, place)
    three.execute("update papers set title = 'again' where id = 1")
    assert write(three, claim(three), {"1": ["one", "other"]}) == 1
    assert column(three, place)[0] == before[0]
    assert column(three, place)[1] != before[1]


def test_a_missing_vector_is_not_invented(three: Connection) -> None:
    """A chunk without vector whose hash is unknown leaves its row stale, and the others go on."""
    versions = claim(three)
    assert write(three, versions, {"1": ["unseen"]}, encoded=False) == 2
    assert stale_keys(three, "papers") == ["1"]
    assert "changed" not in str(three.execute(CHUNKS.format(1)).fetchall())


def test_a_row_that_changed_meanwhile_stays_stale(three: Connection) -> None:
    """What was embedded is not the text any more: it is embedded once more."""
    versions = claim(three)
    three.execute("update papers set title = 'newer' where id = 2")
    assert write(three, versions, {"1": ["a"], "2": ["old"], "3": ["c"]}) == 3
    assert stale_keys(three, "papers") == ["2"]
    assert write(three, claim(three), {"2": ["newer"]}) == 1


def test_only_the_claimer_writes(three: Connection) -> None:
    """A session that lost its claim to another writes nothing."""
    versions = claim(three, claimer=1)
    three.execute("update pgembed.stale set leased_until = now() - interval '1 day'")
    assert claim(three, claimer=2) == versions
    assert write(three, versions, {"1": ["late"]}, claimer=1) == 0
    assert write(three, versions, {"1": ["a"], "2": ["b"], "3": ["c"]}, claimer=2) == 3
    assert three.execute(CHUNKS.format(1)).fetchall() == [(0, "a")]
    assert write(three, versions, {"1": ["too late"]}, claimer=2) == 0
    assert three.execute(CHUNKS.format(1)).fetchall() == [(0, "a")]


def test_a_deleted_row_leaves_the_queue(three: Connection) -> None:
    """A row that went meanwhile is done, and no chunk of it is written."""
    versions = claim(three)
    three.execute("delete from papers where id = 2")
    assert write(three, versions, {"1": ["a"], "2": ["gone"], "3": ["c"]}) == 3
    assert three.execute(CHUNKS.format(2)).fetchall() == []
    assert stale_keys(three, "papers") == []


def test_a_row_without_chunks_is_done(three: Connection) -> None:
    """A text that became empty takes its chunks with it."""
    assert write(three, claim(three), {"1": ["a"], "3": ["c"]}) == 3
    assert three.execute(CHUNKS.format(2)).fetchall() == []


def test_a_success_clears_the_failure(three: Connection) -> None:
    """A row that failed before and is embedded now is no failure any more."""
    three.execute("insert into pgembed.failure values ('papers', '1', 'bad', 3)")
    write(three, claim(three), {"1": ["a"], "2": ["b"], "3": ["c"]})
    assert scalar(three, "select count(*) from pgembed.failure") == 0


def test_staged_rows_that_were_not_claimed_are_ignored(three: Connection) -> None:
    """Only the rows that are named and owned are written, whatever else was staged."""
    versions = claim(three)
    assert write(three, {"1": versions["1"]}, {"1": ["a"], "2": ["b"], "40": ["c"]}) == 1
    assert stale_keys(three, "papers") == ["2", "3"]
    assert scalar(three, "select count(*) from pgembed_data.papers where content = 'c'") == 0


def test_composite_keys_are_written(shared: Connection) -> None:
    """Keys that are json arrays of texts find their columns again."""
    shared.execute('create table made ("a b" text, n int, body text, primary key ("a b", n))')
    shared.execute("insert into made values ('x''y', 1, 'one'), ('[\"x\"]', 2, 'two')")
    create_collection(shared, "made", "made", ["body"], key=["n", "a b"])
    rows = shared.execute("select key, version from pgembed.claim('made', 1)").fetchall()
    stage(shared, [(key, 0, key, key.encode(), vector_of(key, 32).tolist()) for key, _ in rows])
    keys, versions = zip(*rows, strict=True)
    written = "select pgembed.write_batch('made', 1, %s, %s)"
    assert scalar(shared, written, (list(keys), list(versions))) == 2
    assert column(shared, "select content from pgembed_data.made order by n") == [
        '["1", "x\'y"]',
        '["2", "[\\"x\\"]"]',
    ]


def test_unknown_collection_is_refused(shared: Connection) -> None:
    """The error names it."""
    refused(shared, NotFoundError, "select pgembed.write_batch('nope', 1, '{}', '{}')")


def test_a_row_that_is_being_changed_is_not_waited_for(papers: Connection) -> None:
    """A writer whose transaction is open stops nobody; its row is stale once it commits."""
    papers.execute("update papers set title = 'changed' where id <= 3")
    number = scalar(papers, "select pgembed.register_claimer()")
    versions = claim(papers, number)
    papers.execute("set lock_timeout = '2s'")
    with second_session(papers) as writer, writer.transaction():
        writer.execute("update papers set title = 'changing' where id = 2")
        texts = {"1": ["a"], "2": ["old"], "3": ["c"]}
        assert write(papers, versions, texts, claimer=number) == 3
        assert stale_keys(papers, "papers") == []
    assert stale_keys(papers, "papers") == ["2"]


def test_a_row_that_changes_all_the_time_is_written(three: Connection) -> None:
    """A change while it is embedded does not throw the work away; the row stays in the queue."""
    versions = claim(three)
    three.execute("update papers set title = 'newer' where id = 2")
    three.execute("select pgembed.expand_changes('papers', 10)")
    assert write(three, versions, {"1": ["a"], "2": ["old"], "3": ["c"]}) == 3
    assert column(three, "select content from pgembed_data.papers where id = 2") == ["old"]
    assert three.execute("select key, claimed_by from pgembed.stale").fetchall() == [("2", None)]


def test_keys_that_are_equal_but_written_differently_are_one_row(shared: Connection) -> None:
    """1.0 and 1.00 are one number: both entries of the queue are settled by its one row."""
    shared.execute("create table priced (id numeric primary key, body text)")
    shared.execute("insert into priced values (1.0, 'first'), (2, 'other')")
    create_collection(shared, "priced", "priced", ["body"])
    shared.execute("delete from priced where id = 1")
    shared.execute("insert into priced values (1.00, 'second')")
    assert embed(shared, "priced") == 3
    assert stale_keys(shared, "priced") == []
    assert column(shared, "select content from pgembed_data.priced order by id") == [
        "second",
        "other",
    ]

"""pgembed.syncing: every row has exactly its chunks, whatever happens meanwhile."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from pgvector.psycopg import register_vector
from psycopg import sql
from psycopg.rows import dict_row

from pgembed.collections import create_collection, drop_collection, list_collections
from pgembed.database import Connection, connect
from pgembed.encoders import Encoder, open_encoder
from pgembed.errors import FingerprintError, InputError, NotFoundError, PgembedError, SourceError
from pgembed.model import SyncReport
from pgembed.registry import open_registered, register_encoder
from pgembed.schema import migrate
from pgembed.searching import search
from pgembed.syncing import sync
from tests.conftest import with_database
from tests.databases import cleared, copied_database
from tests.encoders import tiny

TINY_TOKENS = 128
"""Of the encoder ``tiny``: the longest chunk, with an overlap of an eighth."""

SYNC_ALL = """
import sys
import pgembed

with pgembed.connect(sys.argv[1]) as connection:
    pgembed.sync(
        connection, "notes", batch_rows=5, on_progress=lambda done, _: print(done, flush=True)
    )
"""


@pytest.fixture(scope="module")
def url(database_url: str, template: str) -> Iterator[str]:
    """One database for this module: making one takes longer than a test."""
    with copied_database(database_url, template, "pgembed_test_syncing") as made:
        yield made


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    """A connection to it; what the test makes is gone afterwards."""
    with cleared(url) as opened:
        yield opened


@pytest.fixture
def other(url: str) -> Iterator[Connection]:
    """A second session."""
    with connect(url) as opened:
        yield opened


def make_notes(connection: Connection, bodies: Mapping[int, str | None], **options: Any) -> None:
    """Table ``notes`` with these rows, and a collection of the same name that is not embedded."""
    connection.execute("create table notes (id bigint primary key, body text, seen boolean)")
    write(connection, bodies)
    create_collection(
        connection, "notes", source="notes", content=["body"], encoder="tiny", **options
    )


def write(connection: Connection, bodies: Mapping[int, str | None]) -> None:
    """Insert or update notes."""
    connection.execute(
        "insert into notes select * from unnest(%s::bigint[], %s::text[])"
        " on conflict (id) do update set body = excluded.body",
        (list(bodies), list(bodies.values())),
    )


def numbered(count: int) -> dict[int, str | None]:
    """Short notes that differ from each other."""
    return {n: f"note {n} on apples and pears" for n in range(1, count + 1)}


def long_text(sentences: int) -> str:
    """A document of many different chunks."""
    return " ".join(f"Sentence {n} tells of ocean number {n * n}." for n in range(sentences))


def check_in_step(connection: Connection) -> None:
    """Every note has exactly the chunks and the embeddings that its text has, and none is stale."""
    encoder = open_registered(connection, "tiny")
    wanted = {
        (number, chunk.number): (chunk.content, chunk.start, chunk.end)
        for number, body in connection.execute("select id, body from notes")
        for chunk in encoder.chunk(body or "", max_tokens=TINY_TOKENS, overlap=TINY_TOKENS // 8)
    }
    rows = connection.execute(
        "select id, chunk_no, content, lower(span), upper(span), embedding::real[]"
        " from pgembed_data.notes"
    ).fetchall()
    assert {(row[0], row[1]): row[2:5] for row in rows} == wanted
    assert len(rows) == len(wanted)
    if rows:
        fresh = encoder.encode_document([row[2] for row in rows])
        assert np.allclose([row[5] for row in rows], fresh, atol=1e-3)
    assert stale(connection) == 0


def stale(connection: Connection) -> int:
    """Rows that wait to be embedded."""
    return one(connection, "select count(*) from pgembed.stale")


def one(connection: Connection, statement: str) -> Any:
    """The only value of a query."""
    row = connection.execute(statement).fetchone()
    assert row is not None
    return row[0]


def encoded_by(connection: Connection, work: Callable[[], object]) -> int:
    """Texts that the encoder was given during the work."""
    encoder = open_registered(connection, "tiny")
    before = encoder.counted.texts
    work()
    return encoder.counted.texts - before


def sessions(connection: Connection) -> int:
    """Sessions of pgembed in this database, this one included."""
    return one(
        connection,
        "select count(*) from pg_stat_activity"
        " where application_name = 'pgembed' and datname = current_database()",
    )


def soon(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something is so; fail when it never is."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


class Running(threading.Thread):
    """A sync in a thread with a connection of its own."""

    def __init__(
        self, url: str, *, barrier: threading.Barrier | None = None, **options: Any
    ) -> None:
        super().__init__(daemon=True)
        self.url, self.options, self.barrier = url, options, barrier
        self.report: SyncReport | None = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Sync the notes."""
        try:
            with psycopg.connect(self.url, autocommit=True, application_name="running") as mine:
                if self.barrier:
                    self.barrier.wait(30)
                self.report = sync(mine, "notes", **self.options)
        except BaseException as error:
            self.error = error

    def finish(self) -> SyncReport:
        """Its report, once it is done."""
        self.join(60)
        assert not self.is_alive()
        assert self.error is None, self.error
        assert self.report is not None
        return self.report


# What a sync does.


def test_every_row_is_embedded_and_found(connection: Connection) -> None:
    """After a sync each row has its chunks, and a search for its text finds it."""
    make_notes(connection, {1: "red apple", 2: "fast train", 3: "deep ocean"})
    report = sync(connection, "notes")
    assert (report.documents, report.chunks, report.encoded) == (3, 3, 3)
    assert report.failed == ()
    check_in_step(connection)
    assert search(connection, "notes", "fast train")[0].key == "2"


def test_updates_deletes_and_inserts_are_followed(connection: Connection) -> None:
    """The collection is what its table is, whichever way the table came to it."""
    make_notes(connection, numbered(12))
    sync(connection, "notes")
    connection.execute("delete from notes where id <= 3")
    connection.execute("update notes set body = 'changed ' || id where id between 4 and 6")
    write(connection, {20: "new", 21: long_text(60)})
    sync(connection, "notes")
    check_in_step(connection)


def test_a_changed_key_takes_its_embedding_along(connection: Connection) -> None:
    """Another key for the same text costs no encoding."""
    make_notes(connection, numbered(5))
    sync(connection, "notes")
    connection.execute("update notes set id = id + 100")
    assert encoded_by(connection, lambda: sync(connection, "notes")) == 0
    check_in_step(connection)


def test_a_key_changed_before_the_first_sync_leaves_nothing_behind(connection: Connection) -> None:
    """The old key of a row that was never embedded is forgotten."""
    make_notes(connection, numbered(5))
    connection.execute("update notes set id = id + 100 where id < 4")
    sync(connection, "notes")
    check_in_step(connection)


def test_unchanged_content_is_never_encoded_again(connection: Connection) -> None:
    """Neither by a second sync, nor by updates that leave the text as it is, nor marked stale."""
    make_notes(connection, {**numbered(8), 9: long_text(80)})
    sync(connection, "notes")
    connection.execute("update notes set seen = true")
    connection.execute("update notes set body = body")
    assert stale(connection) == 0
    connection.execute("select pgembed.mark_stale('notes')")
    written = one(connection, "select max(encoded_at) from pgembed_data.notes")
    assert encoded_by(connection, lambda: sync(connection, "notes")) == 0
    assert one(connection, "select max(encoded_at) from pgembed_data.notes") == written
    check_in_step(connection)


def test_a_change_within_a_long_document_encodes_its_chunk_alone(connection: Connection) -> None:
    """Of twenty chunks those keep their embedding whose text is the same."""
    text = "\n".join(f"Paragraph {n:03} " + "tells of the ocean " * 9 for n in range(60))
    make_notes(connection, {1: text})
    report = sync(connection, "notes")
    assert report.chunks >= 10
    changed = text.replace("Paragraph 045 tells", "Paragraph 045 spoke")
    write(connection, {1: changed})
    encoded = encoded_by(connection, lambda: sync(connection, "notes"))
    assert 1 <= encoded <= 2  # neighbours overlap, so one sentence may be in two chunks
    check_in_step(connection)


def test_text_that_moved_within_its_document_keeps_its_embedding(connection: Connection) -> None:
    """A chunk counted anew is no new text."""
    make_notes(connection, {1: long_text(100)})
    report = sync(connection, "notes")
    write(connection, {1: long_text(100)[:400]})
    sync(connection, "notes")
    check_in_step(connection)
    write(connection, {1: long_text(100)})
    assert sync(connection, "notes").encoded < report.encoded + 1
    check_in_step(connection)


def test_equal_texts_are_encoded_once(connection: Connection) -> None:
    """A thousand rows of one text are one text for the encoder."""
    make_notes(connection, dict.fromkeys(range(50), "the same words"))
    assert sync(connection, "notes").encoded == 1
    check_in_step(connection)


def test_empty_content_has_no_chunk_and_is_not_stale(connection: Connection) -> None:
    """Nothing, blanks and NULL are in step without a chunk; what was there is gone."""
    make_notes(connection, {1: None, 2: "", 3: " \n\t ", 4: "\u00a0", 5: "words"})
    report = sync(connection, "notes")
    assert (report.documents, report.chunks, report.failed) == (5, 1, ())
    write(connection, {5: None})
    assert sync(connection, "notes").documents == 1
    assert one(connection, "select count(*) from pgembed_data.notes") == 0
    check_in_step(connection)


def test_characters_that_the_tokenizer_drops_are_text_like_any(connection: Connection) -> None:
    """Control characters, unknown scripts and half a megabyte of one letter get their vectors."""
    make_notes(connection, {1: "\x01\x02", 2: "語🙂\u200b", 3: "a" * 500_000, 4: "\ufeff"})
    assert sync(connection, "notes").failed == ()
    check_in_step(connection)


def test_the_index_is_built_by_the_first_sync_alone(connection: Connection) -> None:
    """There is one HNSW index afterwards, however often one syncs."""
    make_notes(connection, numbered(3))
    assert not list_collections(connection)[0].indexed
    sync(connection, "notes")
    sync(connection, "notes")
    assert list_collections(connection)[0].indexed
    assert hnsw_indexes(connection) == 1


def test_an_empty_table_is_in_step(connection: Connection) -> None:
    """Nothing to do is done without an error, and without progress."""
    make_notes(connection, {})
    calls: list[int] = []
    report = sync(connection, "notes", on_progress=lambda done, _: calls.append(done))
    assert (report.documents, report.chunks, calls) == (0, 0, [])


def test_progress_only_goes_forward(connection: Connection) -> None:
    """Rows done rise to the total, which never falls, and rows that come meanwhile count."""
    make_notes(connection, numbered(23))
    calls: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        calls.append((done, total))
        if len(calls) == 2:
            write(connection, {n: f"late {n}" for n in range(100, 110)})

    sync(connection, "notes", batch_rows=5, on_progress=progress)
    assert calls == sorted(calls)
    assert all(done <= total for done, total in calls)
    assert calls[-1] == (33, 33)
    assert [total for _, total in calls] == sorted(total for _, total in calls)
    check_in_step(connection)


def hnsw_indexes(connection: Connection) -> int:
    """How many there are on the notes."""
    return one(
        connection,
        "select count(*) from pg_indexes"
        " where schemaname = 'pgembed_data' and tablename = 'notes' and indexdef like '%hnsw%'",
    )


# What it refuses.


def test_a_connection_that_is_not_in_autocommit_is_refused(url: str) -> None:
    """Before anything is done, with the remedy."""
    with psycopg.connect(url) as transactional, pytest.raises(InputError, match="autocommit") as e:
        sync(transactional, "notes")
    assert "pgembed.connect()" in str(e.value)


def test_a_transaction_block_is_refused(connection: Connection) -> None:
    """An open transaction would hold the claims of every batch until its end."""
    make_notes(connection, numbered(2))
    with pytest.raises(InputError, match="in no transaction"), connection.transaction():
        sync(connection, "notes")
    assert stale(connection) == 2


def test_an_unknown_collection_is_named(connection: Connection) -> None:
    """The hint lists those that exist; a name with NUL is no name."""
    make_notes(connection, {})
    with pytest.raises(NotFoundError, match=r"'nope'.*\n?.*'notes'"):
        sync(connection, "nope")
    with pytest.raises(InputError):
        sync(connection, "no\0pe")


def test_another_model_than_the_registered_one_is_refused(
    connection: Connection, tmp_path: Path
) -> None:
    """Its vectors would be of another space: nothing is written."""
    make_notes(connection, numbered(2))
    stranger = open_encoder(str(tiny.make_tiny_encoder(tmp_path / "stranger", seed=1)))
    with pytest.raises(FingerprintError, match="given encoder 'stranger'"):
        sync(connection, "notes", encoder=stranger)
    assert stale(connection) == 2


def test_bounds_that_cut_no_chunk_are_refused_before_a_row_is_touched(
    connection: Connection,
) -> None:
    """An overlap that leaves no room is the collection's fault, not that of each row."""
    make_notes(connection, numbered(2), max_tokens=8, overlap=7)
    with pytest.raises(InputError, match="chunks of 8 tokens"):
        sync(connection, "notes")
    assert stale(connection) == 2
    assert one(connection, "select count(*) from pgembed.failure") == 0


def test_a_lost_content_column_is_named(connection: Connection) -> None:
    """The error says which column is gone, and what puts it right does so."""
    make_notes(connection, numbered(2))
    connection.execute("alter table notes rename column body to words")
    with pytest.raises(SourceError, match="column body"):
        sync(connection, "notes")
    connection.execute("select pgembed.set_content('notes', '{words}')")
    assert sync(connection, "notes").documents == 2


def test_a_dropped_table_is_named(connection: Connection) -> None:
    """The hint says how to remove the collection."""
    make_notes(connection, numbered(2))
    connection.execute("drop table notes cascade")
    with pytest.raises(SourceError, match="source table of collection 'notes' is gone"):
        sync(connection, "notes")


# Rows and batches that go wrong.


def make_fragile_encoder(folder: Path) -> Path:
    """A real model whose numbers overflow on the word "42", as float16 exports do on some words."""
    tiny.make_tiny_encoder(folder)
    lengths = tiny.vocabulary()
    table = np.random.default_rng(0).standard_normal((len(lengths), 32)).astype(np.float32)
    table[list(lengths).index("42")] = np.inf
    tiny.save_model(tiny.model(table, "mean", False), folder / "model.onnx")
    return folder


def test_a_row_that_cannot_be_encoded_fails_alone(connection: Connection, tmp_path: Path) -> None:
    """It lands in pgembed.failure with the reason; its batch-mates are embedded."""
    register_encoder(connection, str(make_fragile_encoder(tmp_path / "fragile")))
    connection.execute("create table notes (id bigint primary key, body text, seen boolean)")
    write(connection, {**numbered(9), 5: "the answer is 42", 7: "42 and 42"})
    create_collection(connection, "notes", source="notes", content=["body"], encoder="fragile")
    report = sync(connection, "notes")
    assert (report.documents, report.chunks) == (7, 7)
    assert sorted(key for key, _ in report.failed) == ["5", "7"]
    failures = connection.execute("select key, error from pgembed.failure order by key").fetchall()
    assert [key for key, _ in failures] == ["5", "7"]
    assert all("gave a vector that cannot be used" in error for _, error in failures)
    assert stale(connection) == 0
    write(connection, {5: "the answer is unknown"})
    assert sync(connection, "notes").documents == 1
    assert one(connection, "select array_agg(key) from pgembed.failure") == ["7"]


def test_failed_rows_are_tried_again_when_asked(connection: Connection, tmp_path: Path) -> None:
    """pgembed.retry puts them back; what still fails is counted once."""
    register_encoder(connection, str(make_fragile_encoder(tmp_path / "fragile")))
    connection.execute("create table notes (id bigint primary key, body text, seen boolean)")
    write(connection, {1: "42", 2: "fine"})
    create_collection(connection, "notes", source="notes", content=["body"], encoder="fragile")
    for _ in range(2):
        assert [key for key, _ in sync(connection, "notes").failed] == ["1"]
        assert one(connection, "select count(*) from pgembed.failure") == 1
        connection.execute("select pgembed.retry('notes')")


# Interruptions.


def test_a_killed_sync_is_finished_by_the_next(connection: Connection, url: str) -> None:
    """Killed with -9 at any moment: each row ends with exactly its chunks, once."""
    make_notes(connection, numbered(300))
    done = 0
    for lines in (2, 9):
        with subprocess.Popen(
            [sys.executable, "-c", SYNC_ALL, url], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for _ in range(lines):
                assert process.stdout.readline()
            process.kill()
        soon(lambda: sessions(connection) == 1)
        embedded = one(connection, "select count(distinct id) from pgembed_data.notes")
        assert done < embedded < 300
        assert embedded + stale(connection) == 300
        done = embedded
    assert sync(connection, "notes").documents == 300 - done
    check_in_step(connection)


def test_ctrl_c_loses_nothing_and_frees_the_claims(connection: Connection) -> None:
    """What is written stays; the rest is free at once, and the connection is usable."""
    make_notes(connection, numbered(20))

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sync(connection, "notes", batch_rows=6, on_progress=stop)
    assert one(connection, "select count(*) from pgembed.stale where claimed_by is null") == 14
    assert one(connection, "select count(*) from pg_locks where classid = 726101") == 0
    assert sync(connection, "notes").documents == 14
    check_in_step(connection)


def test_a_lost_connection_raises_and_leaves_a_queue_that_works(
    connection: Connection, other: Connection
) -> None:
    """The server may end the session at any moment; a new sync goes on."""
    make_notes(connection, numbered(20))

    def cut(done: int, total: int) -> None:
        other.execute("select pg_terminate_backend(%s)", (connection.info.backend_pid,))

    with pytest.raises(psycopg.OperationalError):
        sync(connection, "notes", batch_rows=6, on_progress=cut)
    soon(lambda: one(other, "select count(*) from pg_locks where classid = 726101") == 0)
    assert sync(other, "notes").documents == 14
    check_in_step(other)


def test_a_connection_lost_while_encoding_raises_too(
    connection: Connection, other: Connection, url: str
) -> None:
    """Between claim and write there is no transaction to fail, so the write does."""
    make_notes(connection, {1: long_text(3000), **{n: f"note {n}" for n in range(2, 6)}})
    running = Running(url)
    soon(lambda: one(connection, "select count(*) from pgembed.stale where claimed_by > 0") > 0)
    other.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'running'"
    )
    running.join(60)
    assert isinstance(running.error, psycopg.OperationalError)
    assert stale(connection) == 5
    assert sync(connection, "notes").documents == 5
    check_in_step(connection)


# Others at work at the same time.


def test_two_syncs_share_the_work(connection: Connection, url: str) -> None:
    """Each does a part, each row is done once, and there is one index."""
    make_notes(connection, numbered(120))
    started = threading.Event()
    second: list[Running] = []

    def first_batch(done: int, total: int) -> None:
        if not second:
            second.append(Running(url, batch_rows=5, on_progress=lambda *_: started.set()))
            assert started.wait(30)

    first = sync(connection, "notes", batch_rows=5, on_progress=first_batch)
    report = second[0].finish()
    assert first.documents + report.documents == 120
    assert first.documents >= 5
    assert report.documents >= 5
    assert first.encoded + report.encoded == 120
    check_in_step(connection)
    assert hnsw_indexes(connection) == 1


def test_syncs_that_start_together_encode_each_row_once(connection: Connection, url: str) -> None:
    """A session that has just begun to claim is never taken for a dead one."""
    make_notes(connection, {})
    for turn in range(6):
        write(connection, {n: f"turn {turn} of note {n}" for n in range(40)})
        barrier = threading.Barrier(4)
        running = [Running(url, barrier=barrier, batch_rows=3) for _ in range(4)]
        reports = [each.finish() for each in running]
        assert sum(report.documents for report in reports) == 40
        assert sum(report.encoded for report in reports) == 40
    check_in_step(connection)


def test_two_that_build_the_index_at_once_make_one(
    connection: Connection, other: Connection
) -> None:
    """The second waits for the first, and finds the index there."""
    make_notes(connection, numbered(10))
    sync(connection, "notes")
    connection.execute("drop index pgembed_data.notes_embedding_idx")
    built: list[bool] = []
    build = "select pgembed.build_index('notes')"
    thread = threading.Thread(target=lambda: built.append(one(other, build)))
    with connection.transaction():
        assert one(connection, build) is True
        thread.start()
        time.sleep(0.2)
    thread.join(30)
    assert built == [False]
    assert hnsw_indexes(connection) == 1


def test_a_sync_waits_while_another_session_builds_the_index(
    connection: Connection, other: Connection, url: str
) -> None:
    """A build takes minutes on a large table; writes wait for it and then succeed."""
    make_notes(connection, numbered(5))
    with other.transaction():
        other.execute("select pgembed.build_index('notes')")
        running = Running(url)
        soon(lambda: one(connection, "select count(*) from pg_locks where not granted") > 0)
        time.sleep(1)
        assert running.is_alive()
    assert running.finish().documents == 5
    check_in_step(connection)


def test_no_transaction_is_open_while_encoding(connection: Connection, url: str) -> None:
    """While rows are claimed and being encoded, the session of the sync is idle."""
    make_notes(connection, {1: long_text(3000)})
    running = Running(url)
    idle = (
        "select exists (select from pgembed.stale where claimed_by is not null) and exists ("
        " select from pg_stat_activity where application_name = 'running'"
        " and state = 'idle' and xact_start is null and backend_xmin is null)"
    )
    soon(lambda: bool(one(connection, idle)))
    running.finish()
    check_in_step(connection)


def test_a_row_changed_while_it_is_encoded_ends_with_its_new_content(
    connection: Connection, url: str
) -> None:
    """The old text's vectors are not written; the same sync takes the row up again."""
    make_notes(connection, {1: long_text(2000), 2: "stays"})
    running = Running(url)
    soon(lambda: one(connection, "select count(*) from pgembed.stale where claimed_by > 0") == 2)
    write(connection, {1: "quite another text"})
    running.finish()
    check_in_step(connection)


def test_a_row_deleted_while_it_is_encoded_is_gone(connection: Connection, url: str) -> None:
    """Nothing is written for it, and nothing fails."""
    make_notes(connection, {1: long_text(2000), 2: "stays"})
    running = Running(url)
    soon(lambda: one(connection, "select count(*) from pgembed.stale where claimed_by > 0") == 2)
    connection.execute("delete from notes where id = 1")
    running.finish()
    check_in_step(connection)


def test_a_writer_that_never_rests_is_not_disturbed(connection: Connection, url: str) -> None:
    """Updates, key changes and deletes during a sync neither fail nor deadlock."""
    make_notes(connection, numbered(100))
    running = Running(url, batch_rows=10)
    random = np.random.default_rng(3)
    while running.is_alive():
        keys = [int(key) for key in random.permutation(100)[:10] + 1]
        with connection.transaction():
            again = "update notes set body = body || ' again' where id = any (%s)"
            connection.execute(again, (keys,))
            connection.execute("update notes set id = -id where id = any (%s)", (keys[:3],))
            connection.execute("delete from notes where id = %s", (keys[9],))
    running.finish()
    sync(connection, "notes")
    check_in_step(connection)


@pytest.mark.parametrize(
    "lock",
    [
        "select from notes where id = 3 for update",
        "delete from notes where id = 3",
        "update notes set id = -id where id = 3",
        "update notes set body = 'other' where id = 3",
    ],
)
def test_rows_that_a_writer_keeps_locked_wait_for_the_next_sync(
    connection: Connection, other: Connection, lock: str
) -> None:
    """The others are embedded, the writer is not disturbed, and the next sync does the rest."""
    make_notes(connection, numbered(8))
    sync(connection, "notes")
    connection.execute("update notes set body = 'changed ' || body")
    with other.transaction():
        other.execute(lock)
        assert sync(connection, "notes").documents >= 7
        other.execute("select 1")  # still alive: it was not the victim of a deadlock
    sync(connection, "notes")
    check_in_step(connection)


# Keys, names and connections of every kind.


KEYS = {
    "bigint": [-(2**63), 0, 2**63 - 1],
    "uuid": ["00000000-0000-0000-0000-000000000001", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"],
    "text": [
        "",
        " ",
        "it's",
        'a "quote"',
        "back\\slash",
        "new\nline",
        "語🙂",
        "[1]",
        "%s %I",
        "{}",
    ],
    "timestamptz": ["2024-03-31 01:30:00.123456+00", "infinity", "0044-03-15 12:00:00+00 BC"],
    "date": ["2024-02-29", "-infinity"],
    "numeric(8, 2)": ["1.50", "-0.01"],
    "double precision": ["0.1", "1e300", "-Infinity"],
    "bytea": ["\\x00ff", "\\x"],
    "interval": ["1 year 2 mons", "-00:00:01"],
    "boolean": ["true", "false"],
    "character(5)": ["ab", "x"],
}


@pytest.mark.parametrize("type_name", KEYS)
def test_keys_of_every_type_stay_themselves(connection: Connection, type_name: str) -> None:
    """Each row is embedded, found and changed under its own key, whatever a session's settings."""
    connection.execute(
        sql.SQL("create table things (k {} primary key, t text)").format(sql.SQL(type_name))
    )
    connection.execute("set timezone = 'Asia/Kathmandu'")
    connection.execute("set datestyle = 'SQL, DMY'")
    connection.execute("set intervalstyle = 'iso_8601'")
    connection.execute("set bytea_output = 'escape'")
    connection.execute("set extra_float_digits = -10")
    create_collection(connection, "things", source="things", content=["t"], encoder="tiny")
    values = sql.SQL(", ").join(
        sql.SQL("({}::{}, {})").format(str(key), sql.SQL(type_name), f"thing {n}")
        for n, key in enumerate(KEYS[type_name])
    )
    connection.execute(sql.SQL("insert into things values {}").format(values))
    connection.execute("set timezone = 'America/New_York'")
    assert sync(connection, "things").documents == len(KEYS[type_name])
    connection.execute("reset timezone")
    connection.execute("update things set t = 'changed ' || t")
    sync(connection, "things")
    joined = connection.execute(
        "select count(*), count(*) filter (where d.content = s.t)"
        " from things as s join pgembed_data.things as d using (k)"
    ).fetchone()
    assert joined == (len(KEYS[type_name]), len(KEYS[type_name]))
    assert stale(connection) == 0
    hits = search(connection, "things", "thing", k=100)
    assert len({hit.key for hit in hits}) == len(KEYS[type_name])
    back = sql.SQL(
        "select count(*) from things join unnest(%s::text[]) as h (key) on k = h.key::{}"
    ).format(sql.SQL(type_name))
    found = connection.execute(back, ([hit.key for hit in hits],)).fetchone()
    assert found == (len(KEYS[type_name]),)


def test_composite_keys_stay_themselves(connection: Connection) -> None:
    """Also in another order than the columns', and under names that the side table uses itself."""
    connection.execute(
        'create table parts (body text, "chunk_no" text, "Order" int, content uuid,'
        ' primary key ("Order", content, chunk_no))'
    )
    create_collection(connection, "parts", source="parts", content=["body"], encoder="tiny")
    texts = ["x", 'a "b", [c]', "d\\e\nf", ""]
    connection.execute(
        "insert into parts select 'part ' || n, t, n, gen_random_uuid()"
        " from unnest(%s::text[]) with ordinality as u (t, n)",
        (texts,),
    )
    assert sync(connection, "parts").documents == 4
    connection.execute("update parts set body = 'new ' || body, chunk_no = chunk_no || '!'")
    assert sync(connection, "parts").documents == 4
    rows = connection.execute(
        'select jsonb_build_array("Order"::text, content::text, chunk_no)::text from parts'
    ).fetchall()
    hits = search(connection, "parts", "new part", k=10)
    assert {hit.key for hit in hits} == {key for (key,) in rows}


@pytest.mark.parametrize(
    "name", ["My Notes", 'say "hi"; drop table notes', "it's", "100%", "%I $1 {0}", "語", "N" * 56]
)
def test_any_name_names_a_collection(connection: Connection, name: str) -> None:
    """Names are only ever quoted: create, sync, search and drop work with all of them."""
    connection.execute('create table "Odd ""Table""" ("the id" int primary key, "the %text" text)')
    connection.execute("""insert into "Odd ""Table\""" values (1, 'apple'), (2, 'ocean')""")
    create_collection(
        connection, name, source='"Odd ""Table"""', content=["the %text"], encoder="tiny"
    )
    assert sync(connection, name).documents == 2
    hits = search(connection, name, "apple", filter={"the id": [1, 2]}, hybrid=True)
    assert [hit.key for hit in hits] == ["1", "2"]
    drop_collection(connection, name)
    connection.execute("""insert into "Odd ""Table\""" values (3, 'train')""")


@pytest.mark.slow
def test_ten_megabytes_of_text_are_one_row(connection: Connection) -> None:
    """Cut into chunks that the encoder takes whole."""
    make_notes(connection, {1: "x" * 10_000_000, 2: "small"})
    report = sync(connection, "notes")
    assert report.failed == ()
    assert report.chunks > 1000
    assert stale(connection) == 0
    assert one(connection, "select sum(upper(span) - lower(span)) >= 1e7 from pgembed_data.notes")


def test_the_callers_own_settings_of_a_connection_do_not_matter(
    connection: Connection, url: str
) -> None:
    """Rows as dictionaries, client-side cursors and pgvector's adapters are the caller's affair."""
    make_notes(connection, numbered(5))
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as mine:
        register_vector(mine)
        mine.cursor_factory = psycopg.ClientCursor
        assert sync(mine, "notes").documents == 5
    check_in_step(connection)


def test_a_database_in_another_encoding_keeps_its_texts(
    database_url: str, tiny_directory: Path
) -> None:
    """Texts come back as they were where the server does not speak UTF-8."""
    name = "pgembed_test_latin"
    with psycopg.connect(database_url, autocommit=True) as server:
        server.execute(f"drop database if exists {name}")
        server.execute(f"create database {name} encoding 'LATIN1' locale 'C' template template0")
    try:
        url = with_database(database_url, name)
        migrate(url)
        with connect(url) as latin:
            register_encoder(latin, str(tiny_directory), name="tiny")
            make_notes(latin, {1: "naïve café", 2: "plain"})
            sync(latin, "notes")
            check_in_step(latin)
    finally:
        with psycopg.connect(database_url, autocommit=True) as server:
            server.execute(f"drop database {name} with (force)")


def test_an_encoder_that_is_open_already_is_used(connection: Connection) -> None:
    """The caller's own object does the work."""
    make_notes(connection, numbered(3))
    mine: Encoder = open_encoder(open_registered(connection, "tiny").spec.source, threads=1)
    before = mine.counted.texts
    sync(connection, "notes", encoder=mine)
    assert mine.counted.texts == before + 3
    assert issubclass(InputError, PgembedError)

"""The log of changes: what capture writes, and how claim moves it to the queue."""

from __future__ import annotations

from pgembed.database import Connection
from tests.sql.support import column, create_collection, scalar, stale_keys

QUEUE = "select key, priority, attempts, claimed_by from pgembed.stale order by key::bigint"


def expand(connection: Connection, most: int = 1_000_000) -> int:
    """Move changes to the queue; how many keys."""
    moved: int = scalar(connection, "select pgembed.expand_changes('papers', %s)", (most,))
    return moved


def test_a_statement_is_a_row_of_the_log(shared: Connection) -> None:
    """Few keys are an edit; many are bulk, in rows of a thousand keys."""
    shared.execute("update papers set title = 'x' where id <= 3")
    shared.execute(
        "insert into papers (id, title) select n, 'new' from generate_series(1001, 3500) as n"
    )
    rows = shared.execute(
        "select priority, row_count, cardinality(keys) from pgembed.change order by priority, row_count"
    ).fetchall()
    assert rows == [(0, 3, 3), (1, 500, 500), (1, 1000, 1000), (1, 1000, 1000)]


def test_a_row_is_queued_once_with_its_best_priority(shared: Connection) -> None:
    """Several changes of a row are one; an edit of what is in a bulk load goes first."""
    shared.execute(
        "insert into papers (id, title) select n, 'b' from generate_series(101, 201) as n"
    )
    shared.execute("update papers set title = title || id")
    shared.execute("update papers set title = 'edit' where id = 7")
    expand(shared)
    assert scalar(shared, "select count(*) from pgembed.stale where priority = 1") == 160
    assert column(shared, "select key from pgembed.stale where priority = 0") == ["7"]
    assert scalar(shared, "select count(*) from pgembed.change") == 0


def test_it_stops_after_so_many_keys(shared: Connection) -> None:
    """A claim moves a part of a large load, whole rows of the log, edits before bulk."""
    shared.execute(
        "insert into papers (id, title) select n, 'new' from generate_series(1001, 4000) as n"
    )
    shared.execute("update papers set title = 'edit' where id = 1")
    assert expand(shared, 1) == 1
    assert stale_keys(shared, "papers")[0] == "1"
    assert expand(shared, 1500) == 2000
    assert expand(shared) == 1000
    assert expand(shared) == 0


def test_a_change_of_a_claimed_row_gives_it_a_new_version(shared: Connection) -> None:
    """Whoever embeds the old text writes it, and the row stays in the queue."""
    shared.execute("update papers set title = 'old' where id = 1")
    shared.execute("select pgembed.claim('papers', 1)")
    version = scalar(shared, "select version from pgembed.stale")
    shared.execute("update papers set title = 'new' where id = 1")
    expand(shared)
    assert shared.execute(QUEUE).fetchall() == [("1", 0, 0, 1)]
    assert scalar(shared, "select version from pgembed.stale") > version


def test_a_row_that_never_rests_keeps_its_place(shared: Connection) -> None:
    """The earliest time stays, so that it is not put off for ever."""
    shared.execute(
        "insert into pgembed.stale (collection, key, enqueued_at) values ('papers', '1', '2020-01-01')"
    )
    shared.execute("update papers set title = 'new' where id = 1")
    expand(shared)
    assert scalar(shared, "select enqueued_at::date::text from pgembed.stale") == "2020-01-01"


def test_other_collections_keep_their_changes(shared: Connection) -> None:
    """One table, two collections: each has its own log."""
    create_collection(shared, "titles", "papers", ["title"])
    shared.execute("update papers set title = 'x' where id = 1")
    expand(shared)
    assert column(shared, "select collection from pgembed.change") == ["titles"]


def test_a_key_too_long_for_the_queue_stops_no_other(shared: Connection) -> None:
    """It is a failure that says so, which retry leaves alone; the others are queued."""
    shared.execute("create table wide (id bytea primary key, body text)")
    shared.execute("select pgembed.create_collection('wide', 'wide', '{body}', 'tiny')")
    shared.execute(
        "insert into wide values (decode(repeat('ab', 1200), 'hex'), 'long'), ('x', 'short')"
    )
    assert column(shared, "select key from pgembed.claim('wide', 1)") == ["\\x78"]
    (reason,) = column(shared, "select error from pgembed.failure where collection = 'wide'")
    assert "the key has 2402 bytes" in reason
    assert scalar(shared, "select pgembed.retry('wide')") == 0
    shared.execute("delete from pgembed.failure")
    for again in ("mark_stale", "sweep"):
        shared.execute(f"select pgembed.{again}('wide')".encode())
        assert column(shared, "select error from pgembed.failure") == [reason]
    assert stale_keys(shared, "wide") == ["\\x78"]

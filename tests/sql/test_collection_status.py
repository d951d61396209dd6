"""pgembed.collection_status."""

from __future__ import annotations

from pgembed.database import Connection
from tests.sql.support import create_collection, scalar

STATUS = "select * from pgembed.collection_status() where name = any (%s) order by name"


def test_it_counts_what_is_done_and_what_waits(shared: Connection) -> None:
    """Chunks, stale and failed rows, and whether the index exists, for every collection."""
    create_collection(shared, "titles", "papers", ["title"])
    shared.execute("insert into pgembed.failure values ('papers', '1', 'bad', 1)")
    rows = shared.execute(STATUS, (["papers", "titles"],)).fetchall()
    now = scalar(shared, "select now()")
    assert rows == [
        ("papers", "papers", "tiny", 60, 0, 1, True, None, None),
        ("titles", "papers", "tiny", 0, 60, 0, False, now, None),
    ]


def test_changes_count_before_they_are_claimed(shared: Connection) -> None:
    """What writers changed waits at once, and a paused collection says since when."""
    shared.execute("update papers set title = 'x' where id <= 3")
    shared.execute("select pgembed.pause('papers')")
    (row,) = shared.execute(STATUS, (["papers"],)).fetchall()
    now = scalar(shared, "select now()")
    assert row[4:] == (3, 0, True, now, now)


def test_a_lost_source_does_not_stop_it(shared: Connection) -> None:
    """A collection whose table is gone is still listed."""
    shared.execute("drop table papers cascade")
    assert len(shared.execute(STATUS, (["papers"],)).fetchall()) == 1


def test_without_collections_it_is_empty(shared: Connection) -> None:
    """Nothing is listed."""
    shared.execute("select pgembed.drop_collection(name) from pgembed.collection")
    assert shared.execute("select * from pgembed.collection_status()").fetchall() == []

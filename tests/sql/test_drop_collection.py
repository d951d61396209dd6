"""pgembed.drop_collection."""

from __future__ import annotations

from pgembed.database import Connection
from pgembed.errors import NotFoundError
from tests.sql.support import create_collection, refused, scalar, stale_keys

OURS = (
    "select count(*) from pg_trigger where tgrelid = 'papers'::regclass"
    " and tgfoid = 'pgembed.capture_changes'::regproc"
)


def test_nothing_of_it_is_left(shared: Connection) -> None:
    """Vectors, queue, failures, judgments and triggers go; the source stays as it is."""
    shared.execute("select pgembed.mark_stale('papers')")
    shared.execute("insert into pgembed.failure values ('papers', '1', 'bad', 1)")
    shared.execute(
        "insert into pgembed.judgment (collection, query, key) values ('papers', 'q', '1')"
    )
    assert scalar(shared, OURS) == 2
    shared.execute("select pgembed.drop_collection('papers')")
    assert scalar(shared, "select count(*) from pgembed.collection where name = 'papers'") == 0
    for table in ("stale", "change", "failure", "judgment"):
        assert scalar(shared, f"select count(*) from pgembed.{table}".encode()) == 0, table
    assert scalar(shared, "select to_regclass('pgembed_data.papers')") is None
    assert scalar(shared, OURS) == 0
    assert scalar(shared, "select count(*) from papers") == 60
    shared.execute("update papers set title = 'free'")
    create_collection(shared, "papers", "papers", ["title"])


def test_other_collections_of_the_table_stay(shared: Connection) -> None:
    """Only this collection's triggers go."""
    create_collection(shared, "titles", "papers", ["title"])
    assert scalar(shared, OURS) == 4
    shared.execute("select pgembed.drop_collection('titles')")
    assert scalar(shared, OURS) == 2
    shared.execute("update papers set title = 'x' where id = 1")
    assert stale_keys(shared, "papers") == ["1"]


def test_a_lost_source_is_no_obstacle(shared: Connection) -> None:
    """When the table is gone already, the rest still goes."""
    shared.execute("drop table papers cascade")
    shared.execute("select pgembed.drop_collection('papers')")
    assert scalar(shared, "select count(*) from pgembed.collection where name = 'papers'") == 0


def test_unknown_collection_is_refused(shared: Connection) -> None:
    """A typing error is not silently fine."""
    refused(shared, NotFoundError, "select pgembed.drop_collection('nope')")

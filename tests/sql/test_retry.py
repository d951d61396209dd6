"""pgembed.retry."""

from __future__ import annotations

from pgembed.database import Connection
from pgembed.errors import NotFoundError
from tests.sql.support import create_collection, refused, scalar, stale_keys


def test_failures_go_back_to_the_queue(shared: Connection) -> None:
    """They are no failures any more, and have no attempts behind them."""
    shared.execute(
        "insert into pgembed.failure values ('papers', '1', 'bad', 3), ('papers', '2', 'bad', 3)"
    )
    assert scalar(shared, "select pgembed.retry('papers')") == 2
    assert stale_keys(shared, "papers") == ["1", "2"]
    assert scalar(shared, "select sum(attempts) from pgembed.stale") == 0
    assert scalar(shared, "select pgembed.retry('papers')") == 0


def test_a_row_that_is_stale_again_stays_as_it_is(shared: Connection) -> None:
    """A failed row that changed since is in the queue once, under its newer version."""
    shared.execute("insert into pgembed.failure values ('papers', '1', 'bad', 3)")
    shared.execute("update papers set title = 'x' where id = 1")
    scalar(shared, "select pgembed.expand_changes('papers', 10)")
    version = scalar(shared, "select version from pgembed.stale")
    scalar(shared, "select pgembed.retry('papers')")
    assert scalar(shared, "select version from pgembed.stale") == version
    assert scalar(shared, "select count(*) from pgembed.failure") == 0


def test_other_collections_keep_their_failures(shared: Connection) -> None:
    """Only the named collection is tried again; an unknown one is refused."""
    create_collection(shared, "titles", "papers", ["title"])
    shared.execute("insert into pgembed.failure values ('titles', '1', 'bad', 3)")
    assert scalar(shared, "select pgembed.retry('papers')") == 0
    assert scalar(shared, "select count(*) from pgembed.failure") == 1
    refused(shared, NotFoundError, "select pgembed.retry('nope')")

"""pgembed.pause and pgembed.resume."""

from __future__ import annotations

from pgembed.database import Connection
from pgembed.errors import NotFoundError
from tests.sql.support import column, embed, refused, scalar, stale_keys


def test_nothing_is_claimed_while_paused(shared: Connection) -> None:
    """Writers and searches go on, changes wait, and resume lets them be claimed."""
    shared.execute("select pgembed.pause('papers')")
    shared.execute("update papers set title = 'x' where id = 1")
    assert column(shared, "select key from pgembed.claim('papers', 1)") == []
    assert stale_keys(shared, "papers") == ["1"]
    found = "select count(*) from pgembed.search('papers', array_fill(1, '{32}')::vector)"
    assert scalar(shared, found) == 10
    shared.execute("select pgembed.resume('papers')")
    assert embed(shared, "papers") == 1


def test_pausing_again_keeps_the_time(shared: Connection) -> None:
    """It says since when; resuming what runs changes nothing."""
    shared.execute("select pgembed.pause('papers')")
    shared.execute("update pgembed.collection set paused_at = '2020-01-01' where name = 'papers'")
    shared.execute("select pgembed.pause('papers')")
    since = "select paused_at::date::text from pgembed.collection where name = 'papers'"
    assert scalar(shared, since) == "2020-01-01"
    for _ in range(2):
        shared.execute("select pgembed.resume('papers')")
    assert scalar(shared, since) is None


def test_an_unknown_collection_is_named(shared: Connection) -> None:
    """Both say which there are."""
    for name in ("pause", "resume"):
        error = refused(shared, NotFoundError, f"select pgembed.{name}('nope')".encode())
        assert "papers" in str(error.hint)

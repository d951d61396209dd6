"""pgembed.record_failure."""

from __future__ import annotations

from pgembed.database import Connection
from tests.sql.support import scalar, stale_keys

RECORD = "select pgembed.record_failure('papers', %s, '1', %s, %s)"


def claim(connection: Connection, claimer: int = 1) -> int:
    """Version under which paper 1 was claimed."""
    return int(scalar(connection, "select version from pgembed.claim('papers', %s)", (claimer,)))


def test_a_failure_leaves_the_queue_with_its_reason(shared: Connection) -> None:
    """The row waits in pgembed.failure, its chunks as they were."""
    shared.execute("update papers set title = 'bad' where id = 1")
    assert scalar(shared, RECORD, (1, claim(shared), "too odd"))
    assert stale_keys(shared, "papers") == []
    row = shared.execute("select key, error, attempts from pgembed.failure").fetchone()
    assert row == ("1", "too odd", 1)
    assert scalar(shared, "select count(*) from pgembed_data.papers where id = 1") == 1


def test_the_last_reason_counts(shared: Connection) -> None:
    """A second failure replaces the first."""
    for reason in ("first", "second"):
        shared.execute("update papers set title = %s where id = 1", (reason,))
        assert scalar(shared, RECORD, (1, claim(shared), reason))
    assert shared.execute("select error from pgembed.failure").fetchall() == [("second",)]


def test_a_row_that_changed_meanwhile_is_tried_again(shared: Connection) -> None:
    """A lost claim records nothing; what changed since is in the queue beside its failure."""
    shared.execute("update papers set title = 'bad' where id = 1")
    version = claim(shared)
    assert not scalar(shared, RECORD, (2, version, "not mine"))
    shared.execute("update papers set title = 'better' where id = 1")
    assert scalar(shared, RECORD, (1, version, "too odd"))
    assert stale_keys(shared, "papers") == ["1"]
    assert not scalar(shared, RECORD, (1, version, "too odd"))

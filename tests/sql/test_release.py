"""pgembed.release."""

from __future__ import annotations

from pgembed.database import Connection
from tests.sql.support import column, scalar


def test_unfinished_rows_go_back(shared: Connection) -> None:
    """Another session can claim at once what this one gives up; others keep theirs."""
    first, second, third = (scalar(shared, "select pgembed.register_claimer()") for _ in range(3))
    shared.execute("select pgembed.mark_stale('papers')")
    claim = "select key from pgembed.claim('papers', %s, %s)"
    mine = column(shared, claim, (first, 10))
    column(shared, claim, (second, 50))
    assert column(shared, claim, (third, 60)) == []
    assert scalar(shared, "select pgembed.release(%s)", (first,)) == 10
    assert sorted(column(shared, claim, (third, 60))) == sorted(mine)
    assert scalar(shared, "select pgembed.release(%s)", (first,)) == 0


def test_rows_may_rest_before_they_are_claimed(shared: Connection) -> None:
    """Nobody claims them meanwhile, a row that changes excepted; the claim counts as none."""
    claimer, other = (scalar(shared, "select pgembed.register_claimer()") for _ in range(2))
    shared.execute("select pgembed.mark_stale('papers')")
    claim = "select key from pgembed.claim('papers', %s, 60)"
    column(shared, claim, (claimer,))
    assert scalar(shared, "select pgembed.release(%s, '1 hour')", (claimer,)) == 60
    assert scalar(shared, "select sum(attempts) from pgembed.stale") == 0
    shared.execute("update papers set title = 'changed' where id = 7")
    assert column(shared, claim, (other,)) == ["7"]
    shared.execute("update pgembed.stale set leased_until = clock_timestamp()")
    assert len(column(shared, claim, (claimer,))) == 60

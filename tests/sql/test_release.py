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

"""pgembed.checking.audit_sync."""

from __future__ import annotations

import pytest

from pgembed.checking import audit_sync
from pgembed.database import Connection
from pgembed.errors import InputError, NotFoundError
from pgembed.syncing import sync

DAMAGE = {
    "delete from pgembed_data.papers where id = 5": "lost",
    "update pgembed_data.papers set content_hash = 'x' where id = 5": "stale",
    "insert into pgembed_data.papers (id, chunk_no, content, span, content_hash, embedding)"
    " select id, 1, content, span, content_hash, embedding from pgembed_data.papers where id = 5": "left_over",
}


def test_a_collection_in_step_is_clean(papers: Connection) -> None:
    """Every row is compared, and nothing found."""
    audit = audit_sync(papers, "papers")
    assert (audit.rows, audit.clean) == (60, True)


@pytest.mark.parametrize("statement", DAMAGE)
def test_damage_is_found_and_named(papers: Connection, statement: str) -> None:
    """A chunk that is missing, of another text, or too many."""
    papers.execute(statement.encode())
    audit = audit_sync(papers, "papers")
    assert not audit.clean
    assert getattr(audit, DAMAGE[statement]) == ["5"]
    assert audit.lost_count + audit.stale_count + audit.left_over_count == 1


def test_rows_that_wait_or_failed_are_left_out(papers: Connection) -> None:
    """They are known to be behind: what is said to be in step is compared."""
    papers.execute("update papers set title = 'newer' where id <= 3")
    papers.execute("insert into pgembed.failure values ('papers', '4', 'bad', 1)")
    audit = audit_sync(papers, "papers")
    assert (audit.rows, audit.clean) == (56, True)


def test_a_transaction_and_an_unknown_name_are_refused(papers: Connection) -> None:
    """The one has another snapshot, the other none."""
    with papers.transaction(), pytest.raises(InputError, match="transaction"):
        audit_sync(papers, "papers")
    with pytest.raises(NotFoundError, match="nope"):
        audit_sync(papers, "nope")


def test_columns_may_have_any_name(connection: Connection) -> None:
    """Also those that the check uses itself."""
    connection.execute("create table odd (key bigint primary key, content text, present text)")
    connection.execute("insert into odd values (1, 'red apple', 'here'), (2, null, null)")
    connection.execute(
        "select pgembed.create_collection('odd', 'odd', '{content,present}', 'tiny')"
    )
    sync(connection, "odd")
    audit = audit_sync(connection, "odd")
    assert (audit.rows, audit.clean) == (2, True)

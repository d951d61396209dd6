"""pgembed.wait_fresh."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from pgembed.database import Connection, connect
from pgembed.errors import InputError, NotFoundError, PgembedError
from pgembed.worker import WorkerOptions, run
from tests.databases import url_of
from tests.sql.support import refused, scalar

WAIT = "select pgembed.wait_fresh('papers')"


def code_of(connection: Connection, statement: str = WAIT) -> str | None:
    """The SQLSTATE that a statement ends in."""
    with pytest.raises(psycopg.Error) as raised:
        connection.execute(statement.encode())
    return raised.value.sqlstate


def test_nothing_to_wait_for_is_no_wait(papers: Connection) -> None:
    """In step, with or without a worker."""
    papers.execute(WAIT)


def test_it_waits_for_a_worker(papers: Connection) -> None:
    """What was committed before is found afterwards."""
    stop = threading.Event()
    options = WorkerOptions(url=url_of(papers), poll=0.05, queries=False)
    worker = threading.Thread(target=run, args=(options,), kwargs={"stop": stop})
    papers.execute("set pgembed.timeout_ms = 20000")
    papers.execute("insert into papers (id, title) values (61, 'violet comet')")
    worker.start()
    try:
        while not scalar(papers, "select cardinality(pgembed.living_claimers())"):
            time.sleep(0.01)
        papers.execute(WAIT)
        found = "select count(*) from pgembed_data.papers where id = 61"
        assert scalar(papers, found) == 1
    finally:
        stop.set()
        worker.join()


def test_without_a_worker_it_says_so_at_once(papers: Connection) -> None:
    """No timeout has to pass."""
    papers.execute("update papers set title = 'x' where id = 1")
    started = time.monotonic()
    assert code_of(papers) == "PGE06"
    assert time.monotonic() - started < 2


def test_a_worker_that_hangs_ends_the_wait(papers: Connection) -> None:
    """pgembed.timeout_ms bounds it."""
    papers.execute("update papers set title = 'x' where id = 1")
    papers.execute("set pgembed.timeout_ms = 200")
    with connect(url_of(papers)) as worker:
        worker.execute("select pgembed.register_claimer()")
        started = time.monotonic()
        assert code_of(papers) == "PGE06"
        assert 0.2 <= time.monotonic() - started < 3


def test_backfills_are_not_waited_for(papers: Connection) -> None:
    """A collection that is being built can be searched for what was just written."""
    papers.execute("select pgembed.mark_stale('papers')")
    papers.execute(WAIT)


def test_a_paused_collection_is_named(papers: Connection) -> None:
    """The remedy is another than starting a worker."""
    papers.execute("select pgembed.pause('papers')")
    papers.execute("update papers set title = 'x' where id = 1")
    with pytest.raises(psycopg.Error, match="paused") as raised:
        papers.execute(WAIT)
    assert raised.value.sqlstate == "PGE06"


@pytest.mark.parametrize("nested", [False, True])
def test_own_uncommitted_changes_are_refused(papers: Connection, nested: bool) -> None:
    """Nobody can embed them yet, in a savepoint or without."""
    papers.execute("begin")
    if nested:
        papers.execute("savepoint inner_one")
    papers.execute("update papers set title = 'x' where id = 1")
    assert "commits" in str(refused(papers, InputError, WAIT))
    papers.execute("rollback")
    papers.execute(WAIT)


def test_a_change_of_another_transaction_is_no_own_one(papers: Connection) -> None:
    """A later transaction's committed change is waited for, not refused."""
    with papers.transaction():
        papers.execute("update papers set year = 1 where id = 1")  # takes a transaction number
        with connect(url_of(papers)) as other:
            other.execute("update papers set title = 'x' where id = 2")
        with pytest.raises(psycopg.Error) as raised, papers.transaction():
            papers.execute(WAIT)
        assert raised.value.sqlstate == "PGE06"


def test_a_fixed_snapshot_is_refused(papers: Connection) -> None:
    """It would never see what is embedded meanwhile."""
    papers.execute("begin isolation level repeatable read")
    assert "repeatable read" in str(refused(papers, InputError, WAIT))


def test_an_unknown_collection_is_named(shared: Connection) -> None:
    """As everywhere."""
    refused(shared, NotFoundError, "select pgembed.wait_fresh('nope')")
    assert issubclass(NotFoundError, PgembedError)

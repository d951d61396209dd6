"""pgembed.report_worker, worker_status, waiting_collections and renew."""

from __future__ import annotations

from pgembed.database import Connection, connect
from tests.databases import url_of
from tests.sql.support import column, create_collection, scalar

REPORT = (
    "select pgembed.report_worker(%s, 'host', 42, '0.1', null, 1, 2, 3, 4, 5.5, 'broken', now())"
)


def test_a_worker_is_alive_while_its_session_is(papers: Connection) -> None:
    """The advisory lock says so, not what it wrote last."""
    status = "select alive, documents, throughput, last_error from pgembed.worker_status()"
    with connect(url_of(papers)) as worker:
        number = scalar(worker, "select pgembed.register_claimer()")
        worker.execute(REPORT, (number,))
        worker.execute(REPORT, (number,))
        assert papers.execute(status).fetchall() == [(True, 2, 5.5, "broken")]
        pid = worker.info.backend_pid
    papers.execute("select pg_terminate_backend(%s, 5000)", (pid,))
    assert papers.execute(status).fetchall() == [(False, 2, 5.5, "broken")]


def test_the_dead_are_forgotten_after_a_day(papers: Connection) -> None:
    """The next report of any worker clears them away."""
    papers.execute(REPORT, (1,))
    papers.execute("update pgembed.worker set seen_at = now() - interval '25 hours'")
    papers.execute(REPORT, (2,))
    assert column(papers, "select id from pgembed.worker") == [2]


def test_edits_are_looked_at_before_backfills(shared: Connection) -> None:
    """A collection with an edit comes before one that is being built; a paused one does not come."""
    waiting = "select name from pgembed.waiting_collections()"
    create_collection(shared, "titles", "papers", ["title"])
    assert column(shared, waiting) == ["titles"]
    shared.execute("update papers set abstract = 'x' where id = 1")
    assert column(shared, waiting) == ["papers", "titles"]
    assert column(shared, "select name from pgembed.waiting_collections('{titles}')") == ["titles"]
    shared.execute("select pgembed.pause('papers')")
    assert column(shared, waiting) == ["titles"]


def test_a_lease_is_prolonged_for_what_is_still_ones_own(shared: Connection) -> None:
    """Rows that were marked stale anew are not: they belong to nobody."""
    shared.execute("update papers set title = 'x' where id <= 3")
    shared.execute("select pgembed.claim('papers', 7, lease => interval '1 s')")
    shared.execute("update pgembed.stale set claimed_by = null where key = '1'")
    assert scalar(shared, "select pgembed.renew(7, interval '1 hour')") == 2
    assert scalar(
        shared,
        "select min(leased_until) > clock_timestamp() + interval '50 minutes' from pgembed.stale where claimed_by = 7",
    )
    assert scalar(shared, "select pgembed.renew(8, interval '1 hour')") == 0

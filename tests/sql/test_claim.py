"""pgembed.claim."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from pgembed.database import Connection
from pgembed.errors import NotFoundError, SourceError
from tests.sql.support import (
    column,
    create_collection,
    refused,
    scalar,
    second_session,
    stale_keys,
)

CLAIM = "select key from pgembed.claim('papers', %s, %s)"


def claimer(connection: Connection) -> int:
    """A number for this session to claim under."""
    return int(scalar(connection, "select pgembed.register_claimer()"))


def test_a_claim_brings_all_that_embedding_needs(shared: Connection) -> None:
    """Key, version, whether the row exists, its text, and the hashes of its chunks in order."""
    shared.execute("update papers set title = 'new', abstract = 'text' where id = 6")
    shared.execute("insert into pgembed.stale (collection, key) values ('papers', '999')")
    rows = shared.execute("select * from pgembed.claim('papers', 1) order by key").fetchall()
    version = scalar(shared, "select version from pgembed.stale where key = '6'")
    hashes = column(shared, "select content_hash from pgembed_data.papers where id = 6")
    assert rows[0] == ("6", version, True, "new\ntext", hashes)
    assert rows[1][2:] == (False, None, None)


def test_the_oldest_come_first(shared: Connection) -> None:
    """Rows are handed out in the order in which they became stale, max_rows at a time."""
    for key, minutes in (("3", 3), ("1", 9), ("2", 5)):
        shared.execute(
            "insert into pgembed.stale (collection, key, enqueued_at)"
            " values ('papers', %s, now() - make_interval(mins => %s))",
            (key, minutes),
        )
    number = claimer(shared)
    handed = [column(shared, CLAIM, (number, 1)) for _ in range(4)]
    assert handed == [["1"], ["2"], ["3"], []]


def test_a_claim_counts_the_attempts(shared: Connection) -> None:
    """Each claim is an attempt, and has a lease."""
    shared.execute("insert into pgembed.stale (collection, key) values ('papers', '1')")
    shared.execute("select pgembed.claim('papers', 7, lease => '1 minute')")
    row = shared.execute(
        "select claimed_by, attempts, leased_until - clock_timestamp() < interval '1 minute',"
        " leased_until > clock_timestamp() from pgembed.stale"
    ).fetchone()
    assert row == (7, 1, True, True)


def test_an_expired_lease_is_free(shared: Connection) -> None:
    """A session that hangs keeps its rows no longer than its lease."""
    first, second = claimer(shared), claimer(shared)
    shared.execute("insert into pgembed.stale (collection, key) values ('papers', '1')")
    assert column(shared, CLAIM, (first, 9)) == ["1"]
    assert column(shared, CLAIM, (second, 9)) == []
    shared.execute(
        "update pgembed.stale set leased_until = clock_timestamp() - interval '1 second'"
    )
    assert column(shared, CLAIM, (second, 9)) == ["1"]


def test_collections_do_not_mix(shared: Connection) -> None:
    """A claim takes rows of its own collection only."""
    create_collection(shared, "titles", "papers", ["title"])
    assert column(shared, CLAIM, (claimer(shared), 100)) == []
    assert len(stale_keys(shared, "titles")) == 60


def test_impossible_claims_are_refused(shared: Connection) -> None:
    """An unknown collection, and a source that is gone."""
    refused(shared, NotFoundError, "select pgembed.claim('nope', 1)")
    shared.execute("drop table papers cascade")
    error = refused(shared, SourceError, "select pgembed.claim('papers', 1)")
    assert "drop_collection('papers')" in str(error.hint)


def test_hidden_rows_are_not_taken_for_deleted(shared: Connection) -> None:
    """A session under a policy of the source may not embed: what it cannot see would be removed."""
    shared.execute("select pgembed.mark_stale('papers')")
    shared.execute("create role pgembed_test_worker")
    shared.execute("grant usage on schema pgembed, pgembed_data to pgembed_test_worker")
    for schema in ("pgembed", "pgembed_data", "public"):
        shared.execute(f"grant all on all tables in schema {schema} to pgembed_test_worker")
    shared.execute("set local role pgembed_test_worker")
    assert len(column(shared, CLAIM, (1, 10))) == 10
    shared.execute("reset role")
    shared.execute("alter table papers enable row level security")
    shared.execute("set local role pgembed_test_worker")
    error = refused(shared, SourceError, "select pgembed.claim('papers', 1)")
    assert "pgembed_test_worker" in str(error)
    assert "bypassrls" in str(error.hint)


def test_sessions_share_the_work(papers: Connection) -> None:
    """Four sessions at once get every row, and none twice."""
    papers.execute("select pgembed.mark_stale('papers')")

    def work(_: int) -> list[str]:
        taken: list[str] = []
        with second_session(papers) as session:
            number = claimer(session)
            while keys := column(session, CLAIM, (number, 3)):
                taken += keys
            barrier.append(number)
            while len(barrier) < 4:  # a session that ends frees what it claimed
                time.sleep(0.01)
        return taken

    barrier: list[int] = []
    with ThreadPoolExecutor(4) as pool:
        taken = [key for keys in pool.map(work, range(4)) for key in keys]
    assert sorted(taken, key=int) == [str(n) for n in range(1, 61)]


def test_a_killed_session_frees_its_rows_at_once(papers: Connection) -> None:
    """No lease has to expire: the next claim finds the rows of a session that is gone."""
    papers.execute("select pgembed.mark_stale('papers')")
    worker = second_session(papers)
    assert len(column(worker, CLAIM, (claimer(worker), 60))) == 60
    number = claimer(papers)
    assert column(papers, CLAIM, (number, 60)) == []
    papers.execute("select pg_terminate_backend(%s, 10000)", (worker.info.backend_pid,))
    assert len(column(papers, CLAIM, (number, 60))) == 60
    with pytest.raises(psycopg.OperationalError):
        worker.execute("select 1")
    worker.close()


def test_a_writer_is_not_waited_for(papers: Connection) -> None:
    """A claim takes a row whose writer has not committed yet; the row is embedded once more."""
    papers.execute("select pgembed.mark_stale('papers')")
    with second_session(papers) as writer, writer.transaction():
        writer.execute("update papers set title = 'changing' where id = 5")
        papers.execute("set lock_timeout = '2s'")
        number = claimer(papers)
        assert len(column(papers, CLAIM, (number, 100))) == 60
    assert column(papers, CLAIM, (number, 100)) == []
    papers.execute("select pgembed.release(%s)", (number,))
    assert column(papers, CLAIM, (number, 1)) == ["5"]


def test_the_limit_holds_under_a_bad_plan(papers: Connection) -> None:
    """No join strategy makes a claim of 10 rows lock more, or claim more, than 10."""
    papers.execute("select pgembed.mark_stale('papers')")
    papers.execute("set enable_hashjoin = off; set enable_mergejoin = off; set enable_sort = off")
    number = claimer(papers)
    assert len(column(papers, CLAIM, (number, 10))) == 10
    assert scalar(papers, "select count(*) from pgembed.stale where claimed_by is not null") == 10


def test_text_is_current_or_its_change_waits(papers: Connection) -> None:
    """Rows that change while they are claimed come with the new text, or are claimed once more."""
    stop = time.monotonic() + 2

    def write() -> None:
        with second_session(papers) as writer:
            number = 0
            while time.monotonic() < stop:
                number += 1
                writer.execute("update papers set title = %s where id <= 20", (f"v{number}",))

    claimed = "select key, content from pgembed.claim('papers', %s, 100)"
    settled = (
        "select p.title = %(title)s or exists (select from pgembed.change as c"
        " where %(key)s = any (c.keys)) from papers as p where p.id = %(key)s::bigint"
    )
    number = claimer(papers)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while time.monotonic() < stop:
            with papers.transaction():
                rows = papers.execute(claimed, (number,)).fetchall()
                for key, content in rows[:3]:
                    title = content.split("\n")[0]
                    assert scalar(papers, settled, {"title": title, "key": key})
            papers.execute("select pgembed.release(%s)", (number,))
        writing.result()


def test_a_row_that_nobody_finishes_is_claimed_alone_and_given_up(papers: Connection) -> None:
    """After three claims it takes no others along, after ten it is a failure."""
    papers.execute("update papers set title = 'x' where id <= 5")
    papers.execute("select pgembed.expand_changes('papers', 100)")
    papers.execute("update pgembed.stale set attempts = 3 where key in ('2', '4')")
    number = claimer(papers)
    claims = [sorted(column(papers, CLAIM, (number, 100))) for _ in range(4)]
    assert sorted(claims) == [[], ["1", "3", "5"], ["2"], ["4"]]
    papers.execute("update pgembed.stale set attempts = 10, leased_until = null where key = '2'")
    papers.execute("update pgembed.stale set attempts = 11 where key = '4'")
    column(papers, CLAIM, (number, 100))
    assert column(papers, "select key from pgembed.failure") == ["2"]
    assert "never finished" in scalar(papers, "select error from pgembed.failure")


def test_edits_come_before_bulk_and_backfill(papers: Connection) -> None:
    """Within a priority the oldest comes first."""
    papers.execute("select pgembed.mark_stale('papers')")
    papers.execute("update papers set title = 'x' where id = 60")
    number = claimer(papers)
    assert column(papers, CLAIM, (number, 1)) == ["60"]


def test_a_released_claim_does_not_count(papers: Connection) -> None:
    """A worker that stops in order leaves no attempt behind."""
    papers.execute("update papers set title = 'x' where id = 1")
    number = claimer(papers)
    for _ in range(5):
        assert column(papers, CLAIM, (number, 10)) == ["1"]
        papers.execute("select pgembed.release(%s)", (number,))
    assert scalar(papers, "select attempts from pgembed.stale") == 0

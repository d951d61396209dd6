"""pgembed.set_content."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from pgembed.database import Connection
from pgembed.errors import InputError, NotFoundError, SourceError
from tests.sql.support import column, refused, scalar, second_session, stale_keys

HASHES = "select count(*) from pgembed.claim('papers', 1, 1000) where cardinality(hashes) > 0"


def test_every_row_is_looked_at_again(shared: Connection) -> None:
    """All rows become stale under the new content, and keep what they have until embedded."""
    shared.execute("select pgembed.set_content('papers', '{topic,title}')")
    assert len(stale_keys(shared, "papers")) == 60
    assert scalar(shared, "select count(*) from pgembed_data.papers") == 60
    contents = column(
        shared, "select content from pgembed.claim('papers', 1, 1000) where key = '6'"
    )
    assert contents == ["a\nred apple number 6"]


def test_existing_chunks_are_offered_for_reuse(shared: Connection) -> None:
    """A claim shows the hashes of the chunks that exist, so that equal texts are not encoded."""
    shared.execute("alter table papers rename abstract to summary")
    shared.execute("select pgembed.set_content('papers', '{title,summary}')")
    assert scalar(shared, HASHES) == 60


def test_impossible_content_is_refused(shared: Connection) -> None:
    """No column, an unknown one, null: refused, and the content stays what it was."""
    for content in (None, [], [None], ["title", None]):
        error = refused(
            shared, InputError, "select pgembed.set_content('papers', %s::text[])", (content,)
        )
        assert "id, title, abstract" in str(error.hint)
    error = refused(shared, SourceError, "select pgembed.set_content('papers', '{title,nope}')")
    assert "nope" in str(error)
    refused(shared, NotFoundError, "select pgembed.set_content('nope', '{title}')")
    assert scalar(
        shared, "select content_columns from pgembed.collection where name = 'papers'"
    ) == ["title", "abstract"]
    assert stale_keys(shared, "papers") == []


def test_a_writer_under_way_is_waited_for(papers: Connection) -> None:
    """What it changes in a column that becomes content is stale once it has committed."""
    papers.execute("create index on papers (topic)")
    with second_session(papers) as writer, ThreadPoolExecutor(1) as pool:
        writer.autocommit = False
        writer.execute("update papers set topic = 'changed' where id = 7")
        setting = pool.submit(
            papers.execute, "select pgembed.set_content('papers', '{title,topic}')"
        )
        time.sleep(0.2)
        assert not setting.done()
        writer.commit()
        setting.result()
    row = papers.execute(
        "select content from pgembed.claim('papers', pgembed.register_claimer()) where key = '7'"
    ).fetchone()
    assert row is not None
    assert row[0].endswith("changed")


def test_a_claim_that_waits_reads_the_new_columns(papers: Connection) -> None:
    """Whatever it knew of the collection before it waited does not count."""
    with second_session(papers) as other, ThreadPoolExecutor(1) as pool:
        papers.execute("begin")
        papers.execute("select pgembed.set_content('papers', '{topic}')")
        claimed = pool.submit(column, other, "select content from pgembed.claim('papers', 1, 1000)")
        waits = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        while not scalar(papers, waits):
            time.sleep(0.01)
        papers.execute("commit")
        assert set(claimed.result()) == {"a", "b", "c"}

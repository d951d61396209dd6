"""pgembed.worker: a process that answers and keeps collections in step."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pgembed.database import Connection, connect
from pgembed.errors import NotFoundError
from pgembed.worker import WorkerOptions, run
from pgembed.worker.counters import Counters
from tests.databases import url_of
from tests.sql.support import column, stale_keys


@contextmanager
def working(connection: Connection, **options: object) -> Iterator[Counters]:
    """A worker in a thread of this process, for the time of the block."""
    counters, stop = Counters(), threading.Event()
    given = WorkerOptions(url=url_of(connection), poll=0.05, **options)  # type: ignore[arg-type]
    thread = threading.Thread(target=run, args=(given,), kwargs={"counters": counters, "stop": stop})
    thread.start()
    try:
        yield counters
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def eventually(condition: Callable[[], bool], seconds: float = 15) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def test_changes_are_embedded_by_themselves(papers: Connection) -> None:
    """Inserts, updates and deletes reach the side table without anybody's call."""
    with working(papers):
        papers.execute("insert into papers (id, title) values (61, 'violet comet')")
        papers.execute("update papers set title = 'golden gate', abstract = null where id = 1")
        papers.execute("delete from papers where id = 2")
        eventually(lambda: stale_keys(papers, "papers") == [])
    found = "select content from pgembed_data.papers where id in (1, 2, 61) order by id"
    assert column(papers, found) == ["golden gate", "violet comet"]


def test_it_works_once_and_ends(papers: Connection) -> None:
    """With once it ends by itself when nothing waits."""
    papers.execute("update papers set title = 'x' || id")
    counters = run(WorkerOptions(url=url_of(papers), once=True))
    assert counters.documents == 60
    assert stale_keys(papers, "papers") == []


def test_only_named_collections_are_served(papers: Connection) -> None:
    """The others wait for another worker; an unknown name is refused at once."""
    papers.execute(
        "select pgembed.create_collection('titles', source => 'papers', content => '{title}',"
        " encoder => 'tiny')"
    )
    papers.execute("update papers set title = 'y' where id = 1")
    run(WorkerOptions(url=url_of(papers), once=True, collections=("papers",)))
    assert stale_keys(papers, "papers") == []
    assert len(stale_keys(papers, "titles")) == 60
    with pytest.raises(NotFoundError, match="nope"):
        run(WorkerOptions(url=url_of(papers), once=True, collections=("nope",)))

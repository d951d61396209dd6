"""The demo's last part: a query text in plain SQL, answered by a worker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pgembed.database import Connection, rows_of
from pgembed.worker import WorkerOptions, run

STATEMENT = """\
select p.module || '.' || p.name as name, s.score
from pgembed.search('python_doc', 'copy a folder with all that is in it', k => 3) as s
join demo.python_doc as p on p.id = s.key::int
order by s.rank"""


@contextmanager
def worker(url: str) -> Iterator[None]:
    """A worker that answers query texts, for the time of the block."""
    stop = threading.Event()
    options = WorkerOptions(url=url, concurrency=0)
    # It has nothing to say that the demo does not show.
    logging.getLogger("pgembed.worker").setLevel(logging.CRITICAL)
    thread = threading.Thread(target=run, args=(options,), kwargs={"stop": stop})
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def search(connection: Connection) -> Sequence[tuple[Any, ...]]:
    """Names and scores that the statement finds; waits for the worker to be there."""
    there = "select pgembed.has_encode_worker('minilm')"
    waited = threading.Event()
    while not rows_of(connection, there)[0][0]:
        waited.wait(0.05)
    return rows_of(connection, STATEMENT)

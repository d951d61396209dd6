"""Workers that are asked to end."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from pgembed.database import connect
from tests.databases import copied_database
from tests.reliability.processes import PATCHED, WorkerProcess
from tests.reliability.support import drained, eventually, judge, make_notes, value

CLAIMED = "select count(*) from pgembed.stale where claimed_by is not null"


@pytest.fixture
def url(database_url: str, template: str) -> Iterator[str]:
    """A database of the test's own."""
    with copied_database(database_url, template, "pgembed_test_stopping") as made:
        yield made


def slow_worker(url: str, seconds: float) -> WorkerProcess:
    """A worker that takes its time for each batch."""
    return WorkerProcess(url, command=PATCHED, environment={"PGEMBED_TEST_SLOW": str(seconds)})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_asked_to_end_finishes_its_batch(url: str, number: signal.Signals) -> None:
    """It ends in order with the batch at hand written, and leaves no claim behind."""
    with connect(url) as connection:
        bodies = make_notes(connection, 40)
        with slow_worker(url, 0.7) as worker:
            eventually(lambda: value(connection, CLAIMED), "it has claimed")
            worker.send(number)
            assert worker.ended(8) == 0, worker.output()
            assert value(connection, CLAIMED) == 0
            assert value(connection, "select max(attempts) from pgembed.stale") == 0
            assert value(connection, "select count(*) from pgembed_data.notes") == 16
            assert worker.events("stopped")
        with WorkerProcess(url):
            drained(connection)
        assert judge(connection, bodies).clean


def test_a_second_signal_ends_it_at_once(url: str) -> None:
    """What it had claimed is another's at once."""
    with connect(url) as connection:
        bodies = make_notes(connection, 20)
        with slow_worker(url, 60) as worker:
            eventually(lambda: value(connection, CLAIMED), "it has claimed")
            worker.send(signal.SIGTERM)
            worker.wait_for("stopping")
            began = time.monotonic()
            worker.send(signal.SIGTERM)
            assert worker.ended(5) == -signal.SIGTERM
            assert time.monotonic() - began < 1
        with WorkerProcess(url):
            drained(connection)
        assert judge(connection, bodies).clean

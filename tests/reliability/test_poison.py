"""A row that kills whoever encodes it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from pgembed.database import Connection, connect
from tests.databases import copied_database
from tests.reliability.processes import PATCHED, WorkerProcess
from tests.reliability.support import judge, make_notes, put, value, waiting


@pytest.fixture
def url(database_url: str, template: str) -> Iterator[str]:
    """A database of the test's own."""
    with copied_database(database_url, template, "pgembed_test_poison") as made:
        yield made


def deaths(url: str, connection: Connection) -> int:
    """Start workers, one after the other, until one lives to see the queue empty; how many died."""
    for number in range(20):
        with WorkerProcess(
            url, "--once", command=PATCHED, environment={"PGEMBED_TEST_POISON": "yes"}
        ) as worker:
            status = worker.ended()
            if status != -signal.SIGKILL:
                assert waiting(connection) == 0
                return number
    pytest.fail("the queue never becomes empty")


@pytest.mark.slow
def test_a_row_that_kills_workers_is_given_up_alone(url: str) -> None:
    """Three deaths part it from its batch-mates, after ten it is a failure, and all others are in step."""
    with connect(url) as connection:
        bodies = make_notes(connection, 12)
        put(connection, {6: "poison"})
        assert deaths(url, connection) == 10
        failure = "select key || ' ' || attempts || ' ' || error from pgembed.failure"
        assert value(connection, failure).startswith("6 10 claimed 10 times and never finished")
        assert value(connection, "select count(*) from pgembed_data.notes where id = 6") == 0
        connection.execute("update notes set body = 'an antidote' where id = 6")
        assert deaths(url, connection) == 0
        verdict = judge(connection, {**bodies, 6: "an antidote"})
        assert verdict.clean, verdict

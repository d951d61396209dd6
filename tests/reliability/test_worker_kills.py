"""Workers killed with -9 at any point of their work, while writers write."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pgembed.database import connect
from tests.databases import copied_database
from tests.reliability.kills import POINTS, kill_workers
from tests.reliability.open_transactions import measure_open_transactions
from tests.reliability.support import make_notes


@pytest.fixture
def url(database_url: str, template: str) -> Iterator[str]:
    """A database with the collection ``notes``, empty."""
    with copied_database(database_url, template, "pgembed_test_kills") as made:
        with connect(made) as connection:
            make_notes(connection)
        yield made


@pytest.mark.slow
def test_kills_lose_nothing_and_leave_nothing_behind(url: str) -> None:
    """Once the queue is empty, every row has exactly the chunks of what its writer was told."""
    found = kill_workers(url, kills=6, seed=1)
    assert set(found.at) == {*POINTS, "anywhere"}
    assert found.verdict.clean, found.verdict
    assert found.verdict.chunks > 100
    assert found.takeovers, "no victim held a row when it died"
    assert found.takeover_max < 2


def test_no_transaction_is_open_while_a_worker_encodes(database_url: str, template: str) -> None:
    """Rows are claimed for as long as encoding takes; a transaction lasts a tenth of a second."""
    with copied_database(database_url, template, "pgembed_test_open") as url:
        found = measure_open_transactions(url)
    assert found.claimed_ms > 200, found
    assert found.encoding_ms < 100, found

"""A server that crashes under writers and a worker."""

from __future__ import annotations

import pytest

from pgembed.database import connect
from tests.reliability.postmasters import kill_postmasters
from tests.reliability.support import make_notes, own_server


@pytest.mark.slow
def test_a_crash_of_the_server_loses_no_acknowledged_write() -> None:
    """All of them are there and in step, and the worker came back by itself."""
    with own_server() as (server, _):
        with connect(server.url) as connection:
            make_notes(connection)
        found = kill_postmasters(server, kills=2, seed=1)
    assert found.verdict.clean, found.verdict
    assert found.unanswered, "no writer lost its connection"
    assert found.commits > 100

"""pgembed.prepare_query: a query text where the database cannot connect to itself."""

from __future__ import annotations

import time

import numpy as np
import psycopg
import pytest

from pgembed.database import Connection, translated
from pgembed.errors import InputError, NotFoundError, PgembedError, WorkerError
from pgembed.registry import open_registered
from tests.sql.support import scalar
from tests.sql.texts import Answer, Worker, hanging, working

CALL = "call pgembed.prepare_query('papers', %s, %s)"


@pytest.fixture
def alone(texts: Connection) -> Connection:
    """A session that waits shortly, and has no second connection yet."""
    texts.execute("set pgembed.timeout_ms = 300")
    return texts


def test_the_next_search_finds_the_vector(alone: Connection, worker: Worker) -> None:
    """It is in the memo of the session, and nothing is asked for over dblink."""
    alone.execute(CALL, ("red apple", "base"))
    assert worker.asked == ["red apple"]
    row = alone.execute(
        "select embedding::real[], source from pgembed.query_vector('papers', 'red apple', 'base')"
    ).fetchone()
    assert row is not None
    expected = open_registered(alone, "tiny").encode_query(["red apple"])[0]
    assert row[1] == "memo"
    assert np.allclose(row[0], expected, atol=1e-6)
    opened = "select pgembed_dblink.dblink_get_connections()"
    assert scalar(alone, opened) is None
    hits = alone.execute("select key from pgembed.search('papers', 'red apple', 3, mode => 'base')")
    assert len(hits.fetchall()) == 3
    assert scalar(alone, opened) is None


def test_it_finds_what_is_in_the_cache(alone: Connection, worker: Worker) -> None:
    """A text that was asked for twice needs no worker."""
    for text in ("pear", "other", "pear", "other", "pear"):
        alone.execute(CALL, (text, "soft"))
    assert worker.asked == ["pear", "other", "pear", "other"]


def test_it_needs_its_own_transaction(alone: Connection, worker: Worker) -> None:
    """Within a transaction block a worker would never see the request: PostgreSQL refuses."""
    with pytest.raises(psycopg.errors.InvalidTransactionTermination), alone.transaction():
        alone.execute(CALL, ("red apple", "soft"))


def refusal(
    connection: Connection, error: type[PgembedError], text: str | None, mode: str = "soft"
) -> str:
    """What the call is refused with."""
    with pytest.raises(error) as raised, translated():
        connection.execute(CALL, (text, mode))
    return str(raised.value)


def test_its_errors_are_those_of_encode(alone: Connection, texts_url: str) -> None:
    """Unusable texts, no worker, one that hangs, one that fails; no request is left."""
    assert "null" in refusal(alone, InputError, None)
    assert "empty" in refusal(alone, InputError, "  ")
    assert "'nope'" in refusal(alone, NotFoundError, "text", "nope")
    assert "pgembed worker" in refusal(alone, WorkerError, "text")
    with hanging(texts_url):
        started = time.monotonic()
        assert "within 300 ms" in refusal(alone, WorkerError, "text")
        assert time.monotonic() - started < 0.8
    with working(texts_url, answer=lambda *_: Answer(None, "broken", "PGE03", "mend it")):
        assert "mend it" in refusal(alone, InputError, "text")
    assert scalar(alone, "select count(*) from pgembed.encode_request") == 0

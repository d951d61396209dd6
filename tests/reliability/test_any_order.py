"""Whatever happens in whatever order: once the queue is empty, chunks are what a dict says."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg import sql

from pgembed import batches
from pgembed.batches import make_staging, work_batch
from pgembed.checking import audit_sync
from pgembed.collections import create_collection, search_target
from pgembed.database import Connection, connect
from pgembed.registry import open_registered
from pgembed.syncing import sync
from tests.databases import copied_database
from tests.reliability.kills import POINTS
from tests.reliability.support import value, waiting

KEYS = st.integers(0, 7)
WORDS = st.sampled_from(["", "red apple", "green pear", "blue ocean", "wind " * 90])
PAST = datetime(2020, 1, 1, tzinfo=UTC)
FUTURE = datetime.now(UTC) + timedelta(days=365)
EXPIRY = st.sampled_from([None, None, PAST, FUTURE])


class CrashError(BaseException):
    """The worker is gone: nothing that it would have done happens."""


class _Session:
    """A sync session that does one batch at a time, and may be dropped at any point of it."""

    def __init__(self, url: str) -> None:
        self.connection = connect(url)
        make_staging(self.connection)
        self.claimer = value(self.connection, "select pgembed.register_claimer()")

    def work(self, rows: int, lease: float) -> int:
        target = search_target(self.connection, "any_order")
        model = open_registered(self.connection, "tiny")
        return work_batch(
            self.connection, target, model, self.claimer, batch_rows=rows, lease=lease
        ).claimed


class AnyOrder(RuleBasedStateMachine):
    """Clients that write in and out of transactions, workers that crash, a DBA; and a dict."""

    url: str
    crash_at: dict[int, str]
    """Where the worker of a thread is to crash."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, tuple[str, datetime | None]] = {}
        self.column = "body"
        self.paused = False
        self.connection = connect(self.url)
        self.open: Connection | None = None
        self.pending: dict[int, tuple[str, datetime | None]] = {}
        self.sessions = [_Session(self.url) for _ in range(2)]

    @initialize()
    def make(self) -> None:
        """An empty table with a collection whose rows expire."""
        self.connection.execute(
            "drop table if exists source cascade;"
            " create table source (id int primary key, body text, until timestamptz)"
        )
        create_collection(
            self.connection,
            "any_order",
            source="source",
            content=["body"],
            encoder="tiny",
            max_tokens=32,
            expires="until",
        )

    # Clients.

    def _put(self, client: Connection, key: int, text: str, until: datetime | None) -> None:
        client.execute(
            sql.SQL(
                "insert into source (id, {column}, until) values (%s, %s, %s) on conflict (id)"
                " do update set {column} = excluded.{column}, until = excluded.until"
            ).format(column=sql.Identifier(self.column)),
            (key, text, until),
        )

    def _free(self, key: int) -> bool:
        """Whether no open transaction holds this row."""
        return self.open is None or key not in self.pending

    @rule(key=KEYS, text=WORDS, until=EXPIRY)
    def put(self, key: int, text: str, until: datetime | None) -> None:
        """Insert or update."""
        if self._free(key):
            self._put(self.connection, key, text, until)
            self.rows[key] = (text, until)

    @rule(keys=st.sets(KEYS))
    def delete(self, keys: set[int]) -> None:
        """Delete several in one statement."""
        keys = {key for key in keys if self._free(key)}
        self.connection.execute("delete from source where id = any (%s)", (list(keys),))
        for key in keys:
            self.rows.pop(key, None)

    @rule(old=KEYS, new=KEYS)
    def move(self, old: int, new: int) -> None:
        """Change a key to one that is free."""
        if old in self.rows and new not in self.rows and self._free(old) and self._free(new):
            self.connection.execute("update source set id = %s where id = %s", (new, old))
            self.rows[new] = self.rows.pop(old)

    @precondition(lambda self: len(self.rows) > 1 and self.open is None)
    @rule()
    def rotate(self) -> None:
        """Exchange the texts of all rows in one statement."""
        keys = sorted(self.rows)
        values = {
            key: self.rows[other] for key, other in zip(keys, keys[1:] + keys[:1], strict=True)
        }
        with self.connection.transaction():
            for key, (text, until) in values.items():
                self._put(self.connection, key, text, until)
        self.rows = values

    @precondition(lambda self: self.open is None)
    @rule(cascade=st.booleans())
    def truncate(self, cascade: bool) -> None:
        """Empty the table: the foreign key allows it with cascade alone."""
        if cascade:
            self.connection.execute("truncate source cascade")
            self.rows = {}
        else:
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                self.connection.execute("truncate source")

    @rule(key=KEYS, kept=WORDS, undone=WORDS, gone=KEYS)
    def change_ones_mind(self, key: int, kept: str, undone: str, gone: int) -> None:
        """Write, and roll back to a savepoint what came after."""
        if not (self._free(key) and self._free(gone)):
            return
        with self.connection.transaction():
            self._put(self.connection, key, kept, None)
            with self.connection.transaction(force_rollback=True):
                self._put(self.connection, key, undone, PAST)
                self.connection.execute("delete from source where id = %s", (gone,))
        self.rows[key] = (kept, None)

    @precondition(lambda self: self.open is None)
    @rule()
    def begin(self) -> None:
        """Another client opens a transaction."""
        self.open, self.pending = psycopg.connect(self.url), {}

    @precondition(lambda self: self.open is not None)
    @rule(key=KEYS, text=WORDS)
    def put_uncommitted(self, key: int, text: str) -> None:
        """It writes a row, and holds it."""
        assert self.open is not None
        self._put(self.open, key, text, None)
        self.pending[key] = (text, None)

    @precondition(lambda self: self.open is not None)
    @rule(commits=st.booleans())
    def finish(self, commits: bool) -> None:
        """It commits, rolls back, or dies."""
        assert self.open is not None
        if commits:
            self.open.commit()
            self.rows |= self.pending
        self.open.close()
        self.open = None

    # The DBA.

    @precondition(lambda self: self.open is None)
    @rule(now=st.booleans())
    def rename(self, now: bool) -> None:
        """Rename the content column; until set_content says so, nothing is claimed."""
        new = "body" if self.column == "words" else "words"
        self.connection.execute(
            sql.SQL("alter table source rename column {} to {}").format(
                sql.Identifier(self.column), sql.Identifier(new)
            )
        )
        self.column = new
        if not now and not self.paused:
            with pytest.raises(psycopg.Error, match="column"):
                self.sessions[0].work(4, 60)
            self._put(self.connection, 3, "written meanwhile", None)
            self.rows[3] = ("written meanwhile", None)
        self.connection.execute("select pgembed.set_content('any_order', %s)", ([new],))

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        """Pause or resume."""
        self.paused = paused
        name = "pause" if paused else "resume"
        self.connection.execute(f"select pgembed.{name}('any_order')")

    @rule()
    def sweep(self) -> None:
        """What workers do every minute."""
        self.connection.execute("select pgembed.sweep('any_order')")

    # Workers.

    @rule(number=st.integers(0, 1), rows=st.integers(1, 5), expired=st.booleans())
    def work(self, number: int, rows: int, expired: bool) -> None:
        """One batch; sometimes under a lease that is over at once."""
        claimed = self.sessions[number].work(rows, 0 if expired else 60)
        assert not (claimed and self.paused)

    @rule(number=st.integers(0, 1), point=st.sampled_from(POINTS), rows=st.integers(1, 5))
    def crash(self, number: int, point: str, rows: int) -> None:
        """A worker is gone at a point of its batch, and its session with it."""
        session = self.sessions[number]
        self.crash_at[threading.get_ident()] = point
        try:
            session.work(rows, 60)
        except CrashError:
            pass
        finally:
            self.crash_at.clear()
        session.connection.close()
        self.sessions[number] = _Session(self.url)

    @precondition(lambda self: not self.paused)
    @rule(
        number=st.integers(0, 1),
        point=st.sampled_from(POINTS[:2]),
        key=KEYS,
        text=WORDS,
        expired=st.booleans(),
        finishes=st.booleans(),
    )
    def overtake(
        self, number: int, point: str, key: int, text: str, expired: bool, finishes: bool
    ) -> None:
        """While one worker is at a row, the row changes, and the other worker works or claims."""
        if not self._free(key):
            return

        def meanwhile() -> None:
            self.put(key, text, None)
            other = self.sessions[1 - number]
            if finishes:
                other.work(3, 60)
            else:
                claim = "select from pgembed.claim('any_order', %s, 3)"
                other.connection.execute(claim, (other.claimer,))

        self.put(key, "about to change", None)
        AT[point] = meanwhile
        try:
            self.sessions[number].work(8, 0 if expired else 60)
        finally:
            AT.clear()

    def teardown(self) -> None:
        """Drain, and compare with the dict."""
        try:
            self._judge()
        finally:
            for session in self.sessions:
                session.connection.close()
            self.connection.execute("select pgembed.drop_collection('any_order')")
            self.connection.close()

    def _judge(self) -> None:
        if self.open is not None:
            self.open.close()
        for session in self.sessions:
            session.connection.execute("select pgembed.release(%s)", (session.claimer,))
        self.connection.execute("select pgembed.resume('any_order')")
        self.connection.execute("select pgembed.sweep('any_order')")
        report = sync(self.connection, "any_order")
        assert report.failed == ()
        assert waiting(self.connection) == 0
        assert value(self.connection, "select count(*) from pgembed.failure") == 0
        assert audit_sync(self.connection, "any_order").clean
        model = open_registered(self.connection, "tiny")
        expected = {
            (key, chunk.number): chunk.content
            for key, (text, until) in self.rows.items()
            if until != PAST
            for chunk in model.chunk(text, max_tokens=32, overlap=4)
        }
        stored = self.connection.execute(
            "select id, chunk_no, content from pgembed_data.any_order"
        ).fetchall()
        assert {(key, number): content for key, number, content in stored} == expected


AT: dict[str, Any] = {}
"""What happens when a worker of this process reaches a point."""


@pytest.fixture
def machine(
    database_url: str, template: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[type[AnyOrder]]:
    """The machine, on a database of its own."""

    def reach(name: str) -> None:
        if AnyOrder.crash_at.get(threading.get_ident()) == name:
            raise CrashError
        if meanwhile := AT.pop(name, None):
            meanwhile()

    monkeypatch.setattr(batches, "reach", reach)
    AnyOrder.crash_at = {}
    with copied_database(database_url, template, "pgembed_test_any_order") as url:
        AnyOrder.url = url
        yield AnyOrder


@pytest.mark.slow
def test_any_order_of_events_ends_in_step(machine: type[AnyOrder]) -> None:
    """Writers, crashes, expiry, renames, truncates and pauses leave each row its chunks, once."""
    thorough = os.environ.get("PGEMBED_TEST_EXAMPLES")
    # To shrink a failure takes minutes, more than a test has: who looks into one asks for it.
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=int(thorough or 15),
            stateful_step_count=30,
            derandomize=not thorough,
            phases=tuple(Phase) if thorough else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )

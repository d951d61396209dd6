"""Everything else that goes wrong: each fault is made, judged, and says what happened.

A fault that ends in an exception was not withstood; its verdict is a sentence for the report.
"""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgembed.database import Connection, connect
from tests.databases import copied_database
from tests.reliability.processes import PATCHED, WorkerProcess, claimers, claims
from tests.reliability.proxy import Proxy
from tests.reliability.support import drained, eventually, judge, make_notes, put, value, waiting
from tests.reliability.writers import acknowledged, writing

NAME = "pgembed_test_faults"


@dataclass(frozen=True, slots=True)
class Stage:
    """A database of the fault's own, with 60 notes that nobody has embedded."""

    url: str
    connection: Connection
    bodies: dict[int, str]

    def judge(self) -> None:
        """The queue empties, and every row is in step."""
        drained(self.connection)
        verdict = judge(self.connection, self.bodies)
        assert verdict.clean, verdict

    def put(self, bodies: dict[int, str]) -> None:
        """Write notes, which the ledger keeps."""
        put(self.connection, bodies)
        self.bodies.update(bodies)

    def execute(self, statement: str) -> None:
        """Run a statement in which {database} is this database's name."""
        name = sql.Identifier(self.connection.info.dbname)
        self.connection.execute(sql.SQL(statement).format(database=name))  # type: ignore[arg-type]


@contextmanager
def staged(server: str, template: str) -> Iterator[Stage]:
    """A stage for one fault."""
    with copied_database(server, template, NAME) as url, connect(url) as connection:
        yield Stage(url, connection, make_notes(connection, 60))


def frozen_worker(stage: Stage) -> str:
    """A worker that stands still past its lease: what it brings back later counts no more."""
    zombie = WorkerProcess(stage.url, "--lease", "1", failpoint="encoded:stop")
    environment = {"PGEMBED_TEST_SLOW": "4"}
    with zombie:
        eventually(zombie.frozen, "it freezes after encoding")
        held = stage_claims(stage, zombie)
        assert held == 16
        stage.put({n: f"changed meanwhile {n}" for n in range(1, 9)})
        lease_is_over = "select max(leased_until) < clock_timestamp() from pgembed.stale"
        eventually(lambda: value(stage.connection, lease_is_over), "its lease is over")
        began = time.monotonic()
        with WorkerProcess(
            stage.url, "--batch", "60", command=PATCHED, environment=environment
        ) as other:
            eventually(lambda: stage_claims(stage, other) == 60, "another takes its rows over")
            seconds = time.monotonic() - began
            zombie.send(signal.SIGCONT)
            zombie.wait_for("embedded")
            assert zombie.events("embedded")[0]["documents"] == 0
            assert stage_claims(stage, other) == 60, "it was too late for the zombie to disturb"
            stage.judge()
    return (
        f"its {held} rows were another's {seconds:.1f} s after it started (lease 1 s); awake again,"
        " its late write was rejected"
    )


def frozen_before_commit(stage: Stage) -> str:
    """A worker that stands still within its transaction: the server ends it, and its locks go."""
    zombie = WorkerProcess(stage.url, "--lease", "2", failpoint="written:stop")
    with zombie:
        eventually(zombie.frozen, "it freezes before the commit")
        began = time.monotonic()
        with WorkerProcess(stage.url, "--lease", "2"):
            drained(stage.connection)
            seconds = time.monotonic() - began
            zombie.send(signal.SIGCONT)
            stage.judge()
    return f"the server ended its transaction, all was in step after {seconds:.1f} s"


def cut_network(stage: Stage) -> str:
    """A network that swallows everything and then resets: the worker connects anew."""
    return _cut(stage, reset=True)


def network_gap(stage: Stage) -> str:
    """A network that delivers late what it swallowed: what a worker wrote counts no more."""
    return _cut(stage, reset=False)


def _cut(stage: Stage, *, reset: bool) -> str:
    """Another worker takes over while the first hears nothing, and then the first comes back."""
    slow = {"PGEMBED_TEST_SLOW": "0.5"}
    with (
        Proxy(stage.url) as proxy,
        WorkerProcess(
            proxy.url, "--lease", "2", "--batch", "8", command=PATCHED, environment=slow
        ) as far,
    ):
        far.wait_for("embedded")
        any_claim = "select count(*) from pgembed.stale where claimed_by is not null"
        eventually(lambda: value(stage.connection, any_claim), "it has claimed rows")
        proxy.cut()
        before = len(far.events("embedded"))
        began = time.monotonic()
        with WorkerProcess(stage.url, "--lease", "2"):
            drained(stage.connection)
            seconds = time.monotonic() - began
        proxy.heal(reset=reset)
        stage.put({n: f"after the cut {n}" for n in range(1, 9)})
        far.wait_for("embedded", 40, count=before + (1 if reset else 2))
        late = far.events("embedded")[before]["documents"]
        assert reset or late == 0
        stage.judge()
    how = "connected anew" if reset else "went on, its late write rejected"
    return f"another worker had all in step after {seconds:.1f} s (lease 2 s); healed, it {how}"


def stage_claims(stage: Stage, worker: WorkerProcess) -> int:
    """Rows that a worker has claimed."""
    return claims(stage.connection, claimers(stage.connection, worker))


def statement_timeout(stage: Stage) -> str:
    """Statements that time out for a while: the worker goes on afterwards."""
    stage.execute("alter database {database} set statement_timeout = '2ms'")
    environment = {"PGEMBED_TEST_REST": "1"}
    with WorkerProcess(stage.url, command=PATCHED, environment=environment) as worker:
        eventually(lambda: worker.errors(), "it complains")
        stage.execute("alter database {database} reset statement_timeout")
        _terminate(stage.connection)
        began = time.monotonic()
        stage.judge()
        said = [error for error in worker.errors() if "statement timeout" in error]
    assert said
    return f"{len(said)} complaints, in step {time.monotonic() - began:.1f} s after the end"


def lock_timeout(stage: Stage) -> str:
    """A table that somebody locks for longer than lock_timeout: its rows are written soon after."""
    stage.execute("alter database {database} set lock_timeout = '50ms'")
    with connect(stage.url) as other, WorkerProcess(stage.url):
        with other.transaction():
            other.execute("lock table pgembed_data.notes in share mode")
            worker_waits = "select count(*) from pg_locks where not granted"
            eventually(lambda: value(stage.connection, worker_waits), "the worker waits")
            time.sleep(1)  # the lock lasts longer than all of the worker's tries
        began = time.monotonic()
        stage.judge()
        seconds = time.monotonic() - began
    assert seconds < 15, f"its rows waited for {seconds:.0f} s after the lock was gone"
    return f"in step {seconds:.1f} s after the lock was gone"


def locked_row(stage: Stage) -> str:
    """A row that a transaction keeps locked: the others are written, it follows at the end."""
    with connect(stage.url) as other, WorkerProcess(stage.url, "--batch", "8"):
        with other.transaction():
            other.execute("select from notes where id = 5 for update")
            eventually(lambda: waiting(stage.connection) == 1, "all others are written")
            eventually(
                lambda: value(stage.connection, "select max(attempts) from pgembed.stale") == 0,
                "it rests, and is not blamed",
            )
        began = time.monotonic()
        stage.judge()
        seconds = time.monotonic() - began
    assert seconds < 15, f"it waited for {seconds:.0f} s after the lock was gone"
    return f"the others were written meanwhile; it followed {seconds:.1f} s after the commit"


def deadlock(stage: Stage) -> str:
    """A writer that takes rows in the opposite order: the worker gives way, never the writer."""
    stage.connection.execute("select pgembed.pause('notes')")
    with connect(stage.url) as writer, WorkerProcess(stage.url) as worker:
        with writer.transaction():
            writer.execute("select from notes where id = 16 for update")
            stage.connection.execute("select pgembed.resume('notes')")
            waits = (
                "select count(*) from pg_stat_activity where application_name = 'pgembed worker'"
                " and wait_event_type = 'Lock' and datname = current_database()"
            )
            eventually(lambda: value(stage.connection, waits), "the worker waits for the row")
            writer.execute("delete from notes where id = 1")
            writer.execute("update notes set body = 'the writer wins' where id = 16")
        began = time.monotonic()
        del stage.bodies[1]
        stage.bodies[16] = "the writer wins"
        stage.judge()
        seconds = time.monotonic() - began
        assert not worker.errors()
    deadlocks = value(
        stage.connection,
        "select deadlocks from pg_stat_database where datname = current_database()",
    )
    assert deadlocks == 0
    return f"the writer was never the victim; in step {seconds:.1f} s after its commit"


def disk_full(stage: Stage) -> str:
    """No room for vectors: the worker says so and goes on once there is; writers are untouched."""
    with tempfile.TemporaryDirectory(prefix="pgembed-full-") as folder:
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "tmpfs", folder], check=False,
            capture_output=True,
        ).returncode:  # fmt: skip
            pytest.skip("only root may mount a small disk")
        try:
            return _fill(stage, folder)
        finally:
            _empty_tablespace(stage)
            subprocess.run(["umount", folder], check=True)


def _fill(stage: Stage, folder: str) -> str:
    data = Path(folder) / "data"
    data.mkdir()
    owner = _server_account(stage)
    subprocess.run(["chown", owner, str(data)], check=True)
    stage.connection.execute(
        sql.SQL("create tablespace pgembed_test_small location {}").format(sql.Literal(str(data)))
    )
    stage.connection.execute("alter table pgembed_data.notes set tablespace pgembed_test_small")
    stage.put({n: " ".join(f"ocean {n} {m}" for m in range(150)) for n in range(100, 300)})
    environment = {"PGEMBED_TEST_REST": "1"}
    with WorkerProcess(stage.url, command=PATCHED, environment=environment) as worker:
        full = re.compile("No space left|could not extend")
        eventually(
            lambda: any(full.search(error) for error in worker.errors()), "the disk is full", 60
        )
        stage.put({1: "a writer writes on"})
        subprocess.run(["mount", "-o", "remount,size=200m", folder], check=True)
        began = time.monotonic()
        stage.judge()
        errors = len(worker.errors())
    return f"{errors} complaints; in step {time.monotonic() - began:.1f} s after there was room"


def _server_account(stage: Stage) -> str:
    pid = value(stage.connection, "select pg_backend_pid()")
    return str(Path(f"/proc/{pid}").stat().st_uid)


def _empty_tablespace(stage: Stage) -> None:
    stage.connection.execute("drop table if exists pgembed_data.notes cascade")
    stage.connection.execute("checkpoint")
    stage.connection.execute("drop tablespace if exists pgembed_test_small")


def memory_limit(stage: Stage) -> str:
    """A worker that gets no memory ends or complains in words; another does its work."""
    hungry = WorkerProcess(stage.url, "--batch", "60", limit=(resource.RLIMIT_AS, 260 * 2**20))
    with hungry:
        eventually(lambda: not hungry.running or hungry.errors(), "it ends or complains", 60)
        said = re.findall(r"(?i)[^\n]*(?:memory|alloc|map segment)[^\n]*", hungry.output())
        assert said, hungry.output()[-2000:]
        ended = "goes on" if hungry.running else f"ends with {hungry.process.returncode}"
        with WorkerProcess(stage.url):
            stage.judge()
    return f"it {ended}, saying {said[0].strip()[:90]!r}; another did its work"


def connection_limit(stage: Stage) -> str:
    """A role that may not connect often enough: the worker backs off, then goes on."""
    role = sql.Identifier(NAME)
    stage.connection.execute(
        sql.SQL(
            "create role {} login password 'secret' bypassrls connection limit 1"
            " in role pg_read_all_data, pg_write_all_data"
        ).format(role)
    )
    for kind in ("tables", "sequences"):
        stage.connection.execute(
            sql.SQL(f"grant all on all {kind} in schema pgembed, pgembed_data to {{}}").format(role)
        )
    url = make_conninfo(**{**conninfo_to_dict(stage.url), "user": NAME, "password": "secret"})
    try:
        with WorkerProcess(url) as worker:
            eventually(
                lambda: any("too many connections" in error for error in worker.errors()),
                "the limit is reached",
            )
            stage.connection.execute(sql.SQL("alter role {} connection limit 9").format(role))
            began = time.monotonic()
            stage.judge()
            eventually(lambda: len(worker.ports()) == 2, "every loop is connected", 20)
            count, seconds = len(worker.errors()), time.monotonic() - began
    finally:
        stage.connection.execute(sql.SQL("drop owned by {}").format(role))
        stage.connection.execute(sql.SQL("drop role {}").format(role))
    assert count < 20, "it does not back off"
    return f"{count} complaints, whole again {seconds:.1f} s after the limit was raised"


def terminated_sessions(stage: Stage) -> str:
    """All sessions of a worker ended every 30 ms for four seconds: no row is to blame for that."""
    stage.connection.execute("delete from notes")
    stage.bodies.clear()
    stage.put({number: f"patient {number}" for number in range(1000, 1030)})
    environment = {"PGEMBED_TEST_SLOW": "0.2"}  # none is written before the storm is over
    with WorkerProcess(stage.url, command=PATCHED, environment=environment) as worker:
        with writing(stage.url, seed=7, rows=10) as writers:
            end, ended = time.monotonic() + 4, 0
            while time.monotonic() < end:
                ended += _terminate(stage.connection)
                time.sleep(0.03)
        stage.bodies.update(acknowledged(writers))
        assert ended > 20
        began = time.monotonic()
        stage.judge()
        assert worker.running
    return f"{ended} sessions ended; in step {time.monotonic() - began:.1f} s after the last"


def _terminate(connection: Connection) -> int:
    rows = connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where application_name = 'pgembed worker' and datname = current_database()"
    )
    return sum(ended for (ended,) in rows)


def outlasted_grace(stage: Stage) -> str:
    """A batch that takes longer than the grace of a SIGTERM: it is given up, its rows go back."""
    environment = {"PGEMBED_TEST_SLOW": "60"}
    with WorkerProcess(stage.url, command=PATCHED, environment=environment) as worker:
        eventually(lambda: stage_claims(stage, worker), "it has claimed")
        began = time.monotonic()
        worker.send(signal.SIGTERM)
        assert worker.ended(20) == 0, worker.output()
        seconds = time.monotonic() - began
        assert 9 < seconds < 15
        left = "select count(*) from pgembed.stale where claimed_by is not null or attempts > 0"
        assert value(stage.connection, left) == 0
    with WorkerProcess(stage.url):
        stage.judge()
    return f"ended {seconds:.1f} s after SIGTERM, its claims were free"


FAULTS: dict[str, Callable[[Stage], str]] = {
    each.__name__: each
    for each in (
        frozen_worker,
        frozen_before_commit,
        cut_network,
        network_gap,
        statement_timeout,
        lock_timeout,
        locked_row,
        deadlock,
        disk_full,
        memory_limit,
        connection_limit,
        terminated_sessions,
        outlasted_grace,
    )
}
"""Each by its name."""

LONG = frozenset({"frozen_before_commit", "disk_full", "outlasted_grace"})
"""Those that take more than ten seconds: only ``make torture`` makes them."""

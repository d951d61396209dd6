"""What a text query from SQL takes above the encoder's own time, with 1 and 8 sessions.

Sessions are pgbench's, so that no Python runs on the client's side. Texts lie in a table; every
call is ``select pgembed.encode(collection, query)``. *New* texts go to the worker; the *third*
request of a text is answered from pgembed.encode_cache; a *repeated* one from the session's memo.
Overhead is the time of the SQL call less the median of the same encoder called in process on the
same texts. Two workers: one whose encoder answers at once, which leaves the mechanism alone, and
``pgembed worker`` with all-MiniLM-L6-v2.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from psycopg.conninfo import conninfo_to_dict

from benchmarks.sql_text_worker import Stub, echo, fresh_database, register_stub
from pgembed.database import Connection, connect, rows_of
from pgembed.encoders import open_encoder
from pgembed.loopback import set_up_loopback
from pgembed.registry import register_encoder
from pgembed.server import find_binaries

SESSIONS = (1, 8)
CALLS = {"echo": 1_000, "minilm": 200}
"""Texts a session, together fewer than a worker keeps; a quick run has a quarter of it."""
STRIDE = 100_000
"""Texts of one session have numbers below it."""

SENTENCE = (
    "how does a table that grows reclaim the space of rows which nobody reads any more when long"
    " transactions hold back the horizon of the cleaner and what can an owner do about the index"
)

NEW = """\
\\set i :i + 1
\\set n :client_id * {stride} + :i
select pgembed.encode('{collection}', t.query) from text as t where t.n = {offset} + :n;
"""
REPEATED = "select pgembed.encode('{collection}', t.query) from text as t where t.n = {offset} + 1;"

COMMANDS = {
    "echo": (sys.executable, "-m", "benchmarks.sql_text_worker", "echo"),
    "minilm": (sys.executable, "-m", "pgembed", "worker", "--concurrency", "0"),
}
ENCODERS = {"echo": "stub", "minilm": "minilm"}

Times = list[float]
"""Milliseconds."""


def measure(url: str, *, quick: bool) -> dict[str, Any]:
    """Both workers, one after the other."""
    own = fresh_database(url, "bench_latency")
    with connect(own) as connection:
        register_stub(connection)
        register_encoder(connection, "minilm")
        for name, encoder in ENCODERS.items():
            make_collection(connection, name, encoder)
        make_texts(connection)
    set_up_loopback(own)
    calls = {name: count // 4 if quick else count for name, count in CALLS.items()}
    found = {name: measured(own, name, calls[name]) for name in COMMANDS}
    by_echo = found["echo"]
    return {
        "overhead_ms": {sessions: by_echo[sessions]["overhead_ms"] for sessions in ("1", "8")},
        "cached_ms": by_echo["1"]["cached_ms"],
        "cached_ms_8": by_echo["8"]["cached_ms"],
        "memo_ms": by_echo["1"]["memo_ms"],
        "requests_per_s_8": by_echo["8"]["requests_per_s"],
        "latency": found,
    }


def make_collection(connection: Connection, name: str, encoder: str) -> None:
    """A collection without rows: only its encoder matters."""
    connection.execute(f"create table {name} (id bigint primary key, body text)".encode())
    connection.execute(
        "select pgembed.create_collection(%(name)s::text, source => %(name)s::text::regclass,"
        " content => '{body}', encoder => %(encoder)s)",
        {"name": name, "encoder": encoder},
    )


def make_texts(connection: Connection) -> None:
    """All texts that are asked for: eight words and a number, no two alike."""
    connection.execute("create table text (n bigint primary key, query text not null)")
    numbers = [
        run * 10 * STRIDE + client * STRIDE + call
        for run in range(len(SESSIONS))
        for client in range(max(SESSIONS))
        for call in range(1, max(CALLS.values()) + 1)
    ]
    with connection.cursor() as cursor, cursor.copy("copy text from stdin") as copy:
        for n in numbers:
            copy.write_row((n, query_text(n)))
    connection.execute("vacuum (analyze) text")


def query_text(n: int) -> str:
    """Of eight words that differ from text to text, so that no cache of the processor helps."""
    known = SENTENCE.split()
    words = [known[(n * (place + 3) + place) % len(known)] for place in range(8)]
    return f"{' '.join(words)} {n}"


def measured(url: str, name: str, calls: int) -> dict[str, Any]:
    """One worker, with 1 and then 8 sessions, beside its encoder in process."""
    found = {}
    with worker(url, name):
        for run, sessions in enumerate(SESSIONS):
            offset = run * 10 * STRIDE
            names = {"collection": name, "offset": offset, "stride": STRIDE}
            new = NEW.format(**names)
            times, rate = bench(url, new, sessions, calls)
            bench(url, new, sessions, calls)
            cached, cached_rate = bench(url, new, sessions, calls)
            memo, _ = bench(url, REPEATED.format(**names), sessions, calls)
            own = in_process(name, offset, sessions, calls)
            found[str(sessions)] = {
                "sql_ms": percentiles(times),
                "in_process_ms": percentiles(own),
                "overhead_ms": above(percentiles(times), percentiles(own)["p50"]),
                "requests_per_s": rate,
                "cached_ms": percentiles(cached),
                "cached_requests_per_s": cached_rate,
                "memo_ms": percentiles(memo),
            }
            check_cached(url, sessions * calls)
    return found


def check_cached(url: str, texts: int) -> None:
    """The second answers went into the cache, else the third requests did not come from it."""
    with connect(url) as connection:
        statement = "select count(*) from pgembed.encode_cache where embedding is not null"
        ((kept,),) = rows_of(connection, statement)
        connection.execute("truncate pgembed.encode_cache, pgembed.encode_request")
    assert kept == texts, (kept, texts)


@contextmanager
def worker(url: str, name: str) -> Iterator[None]:
    """A worker in a process of its own, from when it answers."""
    log = Path(tempfile.mkstemp(prefix="pgembed-bench-", suffix=".log")[1])
    with log.open("w") as output:
        process = subprocess.Popen(
            COMMANDS[name], env=os.environ | {"PGEMBED_URL": url}, stdout=output, stderr=output
        )
    try:
        with connect(url) as connection:
            wait_for(connection, ENCODERS[name], process, log)
        yield
    finally:
        process.kill()
        process.wait()
        log.unlink()


def wait_for(
    connection: Connection, encoder: str, process: subprocess.Popen[bytes], log: Path
) -> None:
    """Until a worker serves an encoder."""
    statement = "select pgembed.has_encode_worker(%s)"
    for _ in range(600):
        if rows_of(connection, statement, (encoder,)) == [(True,)]:
            return
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise TimeoutError(log.read_text())


def bench(url: str, script: str, sessions: int, calls: int) -> tuple[Times, float]:
    """Times of all calls but each session's first, which connects; and calls a second."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "script.sql")
        file.write_text(script)
        options = ["-n", "-c", str(sessions), "-t", str(calls), "-D", "i=0"]
        subprocess.run(
            [find_binaries() / "pgbench", *options, "-f", file, "--log", "--log-prefix=times"],
            env=os.environ | environment(url),
            cwd=folder,
            check=True,
            capture_output=True,
        )
        logs = [path.read_text() for path in Path(folder).glob("times*")]
    lines = [line.split() for log in logs for line in log.splitlines()]
    assert len(lines) == sessions * calls
    later = [line for line in lines if int(line[1]) > 0]
    ends = [int(line[4]) + int(line[5]) / 1e6 for line in later]
    begin = min(end - int(line[2]) / 1e6 for end, line in zip(ends, later, strict=True))
    return [int(line[2]) / 1e3 for line in later], len(later) / (max(ends) - begin)


def environment(url: str) -> dict[str, str]:
    """How libpq's programs connect, password included, which others could read as an argument."""
    names = {"dbname": "PGDATABASE", "password": "PGPASSWORD", "user": "PGUSER"}
    given = {names.get(key, f"PG{key.upper()}"): str(v) for key, v in conninfo_to_dict(url).items()}
    return given | {"PGOPTIONS": "-c pgembed.timeout_ms=30000"}


def in_process(name: str, offset: int, sessions: int, calls: int) -> Times:
    """The same texts by the same encoder in this process, a thread a session."""
    encoder: Any = Stub(echo) if name == "echo" else open_encoder("minilm", threads=1)
    encoder.encode_query(["first"])

    def session(client: int) -> Times:
        times = []
        for call in range(2, calls + 1):
            text = query_text(offset + client * STRIDE + call)
            started = time.perf_counter()
            encoder.encode_query([text])
            times.append(1e3 * (time.perf_counter() - started))
        return times

    with ThreadPoolExecutor(sessions) as threads:
        return [each for times in threads.map(session, range(sessions)) for each in times]


def percentiles(times: Sequence[float]) -> dict[str, float]:
    """The middle and the slow ends."""
    return {f"p{at}": float(np.percentile(times, at)) for at in (50, 95, 99)}


def above(times: dict[str, float], own: float) -> dict[str, float]:
    """What is left of each."""
    return {name: time - own for name, time in times.items()}


def report(result: dict[str, Any]) -> list[str]:
    """As a table."""
    if "latency" not in result:
        return []
    lines = [
        "## A text query from SQL",
        "",
        "Milliseconds, p50 / p95 / p99, of `select pgembed.encode(...)`, and of the same encoder"
        " called in process on the same texts (a thread a session). Overhead: above the median in"
        " process.",
        "",
        "| encoder | sessions | SQL, new text | in process | overhead | from the cache | from the"
        " memo | new texts a second | from the cache a second |",
        "|---" * 9 + "|",
    ]
    for name, by_sessions in result["latency"].items():
        for sessions, found in by_sessions.items():
            keys = ("sql_ms", "in_process_ms", "overhead_ms", "cached_ms", "memo_ms")
            cells = " | ".join(" / ".join(f"{v:.2f}" for v in found[key].values()) for key in keys)
            lines.append(
                f"| {name} | {sessions} | {cells} | {found['requests_per_s']:,.0f}"
                f" | {found['cached_requests_per_s']:,.0f} |"
            )
    return [*lines, "", NOTES, ""]


NOTES = """echo answers at once with a constant vector: what is left is the mechanism. minilm is
`pgembed worker` with all-MiniLM-L6-v2 and one thread; eight sessions share it, and it encodes what
waits as one batch, while eight threads in process run their texts side by side. A session's first
call, which opens its second connection, is left out."""

"""Our worker and pgai's on the same rows, server and model: speed, kills, open transactions.

Both run as ``--once`` with one session, in batches of 50 rows (pgai's default), and ask the same
model by the same HTTP API (sql_text_model), a new connection a batch. pgai makes no index, and
ours builds its own when all rows are written, which is not in the figures. Each run begins with a
copy of a database in which the rows are there and none is embedded. Ours also writes the words of
each row for BM25; pgai has no such thing. pgai lives in a virtual environment of its own
(.venv-pgai, made by make bench); without it this part is left out.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString

import psutil
from psycopg.conninfo import conninfo_to_dict

from benchmarks.sql_text_model import Model, model
from benchmarks.sql_text_worker import empty_database, fresh_database, register_stub
from pgembed.database import Connection, connect, rows_of

ROWS, QUICK_ROWS = 5_000, 1_000
BATCH = 50
ROUNDS, QUICK_ROUNDS = 3, 1
DELAY = 0.002
"""Seconds a text of the slow model, in which workers are killed and their transactions watched."""
SAMPLE = 0.02
"""Seconds between two looks."""
KILLS = (0.2, 0.4, 0.6, 0.8)
"""When so many of the rows are embedded, by which the worker is killed."""
PATIENCE = 300.0

PGAI = Path(__file__).parents[1] / ".venv-pgai" / "bin"

SOURCE: LiteralString = (
    "create table doc (id int primary key, body text not null);"
    " insert into doc select n, 'Row ' || n || ' says what a short row of a table says.'"
    " from generate_series(1, {}) as n"
)

OPEN_TRANSACTIONS: LiteralString = (
    "select coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::float8"
    " from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    " and backend_type = 'client backend' and xact_start is not null"
)


@dataclass(frozen=True, slots=True)
class Contender:
    """A worker, and where it keeps what."""

    name: str
    embedded: LiteralString
    """Source ids of the vectors."""
    held: LiteralString
    """How many queued rows nobody else could take now; pgai locks each by an advisory lock."""

    def command(self, url: str, served: Model) -> tuple[list[str], dict[str, str]]:
        """How it is started, and with which environment."""
        if self.name == "pgai":
            own = "postgresql://{user}:{password}@{host}:{port}/{dbname}"
            given = own.format(**conninfo_to_dict(url))
            # Its tracing looks for a collector that is not there.
            quiet = {"DD_TRACE_ENABLED": "false", "NO_PROXY": "127.0.0.1"}
            arguments = ["vectorizer", "worker", "-d", given, "--once", "--log-level", "WARN"]
            return [str(PGAI / "pgai"), *arguments], quiet
        module = [sys.executable, "-m", "benchmarks.sql_text_worker"]
        return [*module, "model", served.url, str(BATCH)], {"PGEMBED_URL": url}


OURS = Contender(
    "pgembed",
    "select id from pgembed_data.doc",
    # In a select of its own, so that it is looked up once and not for every row.
    "select count(*) from pgembed.stale"
    " where claimed_by = any ((select pgembed.living_claimers())::int[])",
)
THEIRS = Contender(
    "pgai",
    "select id from doc_embedding",
    "select count(*) from pg_locks where locktype = 'advisory' and database ="
    " (select oid from pg_database where datname = current_database())",
)


@dataclass(slots=True)
class Watched:
    """What was seen of one worker."""

    seen: list[tuple[float, int, float]] = field(default_factory=list)
    """Seconds since its start, rows embedded, age of the oldest transaction."""
    cpu: list[float] = field(default_factory=list)
    """Of its process, at the same times."""

    def speed(self) -> dict[str, float]:
        """From its first rows to its last, without the start of the process."""
        first = next(i for i, (_, rows, _) in enumerate(self.seen) if rows)
        (begin, before, _), (end, after, _) = self.seen[first], self.seen[-1]
        rows = after - before
        return {
            "rows_per_s": rows / (end - begin),
            "worker_cpu_ms_per_row": 1e3 * (self.cpu[-1] - self.cpu[first]) / rows,
            "seconds_to_first_rows": begin,
        }

    def oldest(self) -> float:
        """Longest transaction that was seen while rows were embedded."""
        return max(age for _, _, age in self.seen)


def measure(url: str, *, quick: bool) -> dict[str, Any]:
    """Both workers in turns; where pgai is missing, why it was left out."""
    if not (PGAI / "pgai").exists():
        print(f"pgai is not in {PGAI.parent} (make bench installs it there): left out")
        return {"pgai": {"skipped": f"no {PGAI.parent.name}"}}
    rows, rounds = (QUICK_ROWS, QUICK_ROUNDS) if quick else (ROWS, ROUNDS)
    contenders = (OURS, THEIRS)
    with model(0) as served:
        prepare_ours(url, rows)
        prepare_pgai(url, rows, served)
        runs: dict[str, list[Watched]] = {each.name: [] for each in contenders}
        for number in range(rounds):
            for each in contenders if number % 2 else contenders[::-1]:
                runs[each.name].append(run(url, each, served, rows))
        found: dict[str, Any] = {
            name: {"instant_model": middle([each.speed() for each in watched])}
            for name, watched in runs.items()
        }
        served.delay = DELAY
        for each in contenders:
            watched = run(url, each, served, rows)
            found[each.name]["slow_model"] = watched.speed() | {
                "longest_transaction_ms": 1e3 * watched.oldest()
            }
            found[each.name]["kill"] = killed(url, each, served, rows)
    return {"pgai": found | {"rows": rows, "batch": BATCH, "slow_model_ms_per_text": 1e3 * DELAY}}


def middle(found: list[dict[str, float]]) -> dict[str, float]:
    """Medians over the rounds."""
    return {name: statistics.median(each[name] for each in found) for name in found[0]}


def prepare_ours(url: str, rows: int) -> None:
    """A database to copy: our schema, the rows, and a collection of them."""
    with connect(fresh_database(url, "bench_pgembed_template")) as connection:
        register_stub(connection)
        connection.execute(SOURCE.format(rows).encode())
        connection.execute(
            "select pgembed.create_collection('doc', source => 'doc', content => '{body}',"
            " encoder => 'stub')"
        )


def prepare_pgai(url: str, rows: int, served: Model) -> None:
    """The same with pgai's schema, and a vectorizer."""
    own = empty_database(url, "bench_pgai_template")
    given = "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**conninfo_to_dict(own))
    subprocess.run([PGAI / "pgai", "install", "-d", given], check=True, capture_output=True)
    with connect(own) as connection:
        connection.execute(SOURCE.format(rows).encode())
        connection.execute(
            "select ai.create_vectorizer('doc'::regclass,"
            " loading => ai.loading_column('body'), parsing => ai.parsing_none(),"
            " destination => ai.destination_table(target_table => 'doc_embedding',"
            " view_name => 'doc_view'),"
            " embedding => ai.embedding_ollama('fake', 384, base_url => %s),"
            " chunking => ai.chunking_none(), indexing => ai.indexing_none(),"
            " scheduling => ai.scheduling_none(),"
            " processing => ai.processing_default(batch_size => %s, concurrency => 1))",
            (served.url, BATCH),
        )


@contextmanager
def started(
    url: str, contender: Contender, served: Model
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A worker's process and the file that it logs to; ended at the end."""
    command, settings = contender.command(url, served)
    log = Path(tempfile.mkstemp(prefix="pgembed-bench-", suffix=".log")[1])
    with log.open("w") as output:
        process = subprocess.Popen(command, env=os.environ | settings, stdout=output, stderr=output)
    try:
        yield process, log
    finally:
        process.kill()
        process.wait()
        log.unlink()


def run(url: str, contender: Contender, served: Model, rows: int) -> Watched:
    """Embed everything once, and look on."""
    own = empty_database(url, "bench_run", f"bench_{contender.name}_template")
    watched, begun = Watched(), time.perf_counter()
    with connect(own) as watcher, started(own, contender, served) as (process, log):
        worker = psutil.Process(process.pid)
        while not watched.seen or watched.seen[-1][1] < rows:
            look(watcher, contender, watched, begun)
            watched.cpu.append(sum(worker.cpu_times()[:2]))
            check_going_on(process, log, begun, watched.seen[-1][1] < rows)
            time.sleep(SAMPLE)
    return watched


def look(watcher: Connection, contender: Contender, watched: Watched, begun: float) -> None:
    """One sample."""
    ((age,),) = rows_of(watcher, OPEN_TRANSACTIONS)
    embedded = count(watcher, contender)
    watched.seen.append((time.perf_counter() - begun, embedded, age))


def count(watcher: Connection, contender: Contender) -> int:
    """Vectors that are written."""
    statement: LiteralString = "select count(*) from (" + contender.embedded + ") as e"
    return int(rows_of(watcher, statement)[0][0])


def check_going_on(
    process: subprocess.Popen[bytes], log: Path, begun: float, unfinished: bool
) -> None:
    """A worker that ended too early, or never, is no measurement."""
    if unfinished and process.poll() is not None:
        raise RuntimeError(f"{process.args} ended: {log.read_text()[-2000:]}")
    if time.perf_counter() - begun > PATIENCE:
        raise TimeoutError(log.read_text()[-2000:])


def killed(url: str, contender: Contender, served: Model, rows: int) -> dict[str, Any]:
    """Kill the worker several times while the model is at a batch, then let it finish."""
    own = empty_database(url, "bench_run", f"bench_{contender.name}_template")
    asked = served.texts
    free_after = []
    with connect(own) as watcher:
        for share in (*KILLS, None):
            begun = time.perf_counter()
            with started(own, contender, served) as (process, log):
                wanted = rows if share is None else int(share * rows)
                while (embedded := count(watcher, contender)) < wanted:
                    check_going_on(process, log, begun, embedded < rows)
                    time.sleep(0.005)
                while share is not None and not served.at_work:
                    check_going_on(process, log, begun, True)
                    time.sleep(0.001)
                if share is not None:
                    time.sleep(DELAY * BATCH / 4)
                    assert held(watcher, contender)
                    process.kill()
                    free_after.append(time_until_free(watcher, contender))
        ids = [key for (key,) in rows_of(watcher, contender.embedded)]
    return {
        "kills": len(KILLS),
        "rows_lost": rows - len(set(ids)),
        "rows_twice": len(ids) - len(set(ids)),
        "texts_encoded_again": served.texts - asked - rows,
        "claimable_after_ms": statistics.median(free_after),
        "claimable_after_ms_max": max(free_after),
    }


def held(watcher: Connection, contender: Contender) -> int:
    """Queued rows that the worker is at."""
    return int(rows_of(watcher, contender.held)[0][0])


def time_until_free(watcher: Connection, contender: Contender) -> float:
    """Milliseconds until another worker could take every row that is left."""
    begun = time.perf_counter()
    while held(watcher, contender):
        if time.perf_counter() - begun > PATIENCE:
            raise TimeoutError("rows of a dead worker stay claimed")
    return 1e3 * (time.perf_counter() - begun)


FIGURES: tuple[tuple[str, tuple[str, str]], ...] = (
    ("rows a second, instant model", ("instant_model", "rows_per_s")),
    ("CPU of the worker, ms a row, instant model", ("instant_model", "worker_cpu_ms_per_row")),
    ("rows a second, slow model", ("slow_model", "rows_per_s")),
    ("longest transaction, ms, slow model", ("slow_model", "longest_transaction_ms")),
    ("seconds from start to first rows", ("instant_model", "seconds_to_first_rows")),
    ("kill -9: rows lost", ("kill", "rows_lost")),
    ("kill -9: rows written twice", ("kill", "rows_twice")),
    ("kill -9: texts encoded again", ("kill", "texts_encoded_again")),
    ("kill -9: ms until all rows can be claimed, median", ("kill", "claimable_after_ms")),
)


def report(result: dict[str, Any]) -> list[str]:
    """As a table."""
    found = result.get("pgai", {})
    if "pgembed" not in found:
        return []
    lines = [
        "## The worker beside pgai's",
        "",
        f"{found['rows']:,} short rows, one session, batches of {found['batch']}, the same HTTP"
        f" model: instant, or {found['slow_model_ms_per_text']:g} ms a text. Killed"
        f" {found['pgembed']['kill']['kills']} times while the model was at a batch, and started"
        f" again. Transactions were looked at every {1e3 * SAMPLE:g} ms. Ours also writes"
        " each row's words for BM25.",
        "",
        "| | pgembed | pgai |",
        "|---|---|---|",
    ]
    for title, (part, name) in FIGURES:
        ours, theirs = (found[each][part][name] for each in ("pgembed", "pgai"))
        lines.append(f"| {title} | {ours:,.4g} | {theirs:,.4g} |")
    return [*lines, ""]

"""Kill for a quarter of an hour, and write down what was found: ``make torture``.

The same code as the tests of this folder, with bigger numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from rich.console import Console
from rich.progress import Progress

from pgembed.database import connect
from pgembed.server import EmbeddedServer
from tests.databases import copied_database
from tests.reliability.faults import FAULTS, staged
from tests.reliability.kills import Killed, kill_workers
from tests.reliability.open_transactions import measure_open_transactions
from tests.reliability.postmasters import Crashed, kill_postmasters
from tests.reliability.support import make_notes, own_server, prepare

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "reliability.json"
TEMPLATE = "pgembed_torture_template"

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to kill, and until when."""

    kills: int
    postmaster_kills: int
    seed: int
    minutes: float
    started: float = field(default_factory=time.monotonic)

    @property
    def late(self) -> bool:
        """Whether the time is up: then a run of kills ends, and is judged."""
        return time.monotonic() - self.started > self.minutes * 60


def torture(plan: Plan) -> dict[str, Any]:
    """Everything, on a server of its own with PostgreSQL's durable defaults."""
    with own_server() as (server, home):
        template = _template(server, home)
        crashed = _progress(
            "postmaster kills", plan.postmaster_kills, lambda tell: _crash(server, plan, tell)
        )
        killed = _progress(
            "worker kills", plan.kills, lambda tell: _kill(server, template, plan, tell)
        )
        with copied_database(server.url, template, "pgembed_torture_open") as url:
            open_ms = measure_open_transactions(url)
        faults = {name: _fault(server.url, template, name) for name in FAULTS}
        version = psycopg.connect(server.url).info.server_version
    verdicts = (killed.verdict, crashed.verdict)
    return {
        "worker_kills": killed.kills,
        "postmaster_kills": crashed.kills,
        **{
            kind: sum(getattr(verdict, kind) for verdict in verdicts)
            for kind in ("lost", "duplicate", "stale", "failed")
        },
        "takeover_s_max": round(killed.takeover_max, 3),
        "worker_xact_ms_max": round(open_ms.encoding_ms, 1),
        "faults": faults,
        "worker_run": {
            **asdict(killed),
            "takeovers": sorted(round(each, 3) for each in killed.takeovers),
        },
        "postmaster_run": {
            **asdict(crashed),
            "recoveries": sorted(round(each, 3) for each in crashed.recoveries),
        },
        "transactions": asdict(open_ms),
        "machine": {
            "processors": os.cpu_count(),
            "processor": platform.processor() or platform.machine(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "postgresql": version,
        },
        "seed": plan.seed,
        "seconds": round(time.monotonic() - plan.started),
    }


def _template(server: EmbeddedServer, home: Path) -> str:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"create database {TEMPLATE}")
    prepare(_database(server.url, TEMPLATE), home / "tiny")
    with connect(server.url) as connection:
        make_notes(connection)
    return TEMPLATE


def _database(url: str, name: str) -> str:
    return make_conninfo(**{**conninfo_to_dict(url), "dbname": name})


def _crash(server: EmbeddedServer, plan: Plan, tell: Callable[[int], None]) -> Crashed:
    return kill_postmasters(
        server, kills=plan.postmaster_kills, seed=plan.seed, on_kill=tell, enough=lambda: plan.late
    )


def _kill(server: EmbeddedServer, template: str, plan: Plan, tell: Callable[[int], None]) -> Killed:
    with copied_database(server.url, template, "pgembed_torture_kills") as url:
        with connect(url) as connection:
            make_notes(connection)
        return kill_workers(
            url, kills=plan.kills, seed=plan.seed, on_kill=tell, enough=lambda: plan.late
        )


def _progress(what: str, total: int, run: Callable[[Callable[[int], None]], Any]) -> Any:
    with Progress(console=console) as progress:
        task = progress.add_task(what, total=total)
        return run(lambda done: progress.update(task, completed=done))


def _fault(server: str, template: str, name: str) -> str:
    began = time.monotonic()
    try:
        with staged(server, template) as stage:
            verdict = f"withstood: {FAULTS[name](stage)}"
    except pytest.skip.Exception as skipped:
        verdict = f"not tried: {skipped}"
    except Exception as error:
        verdict = f"FAILED: {type(error).__name__}: {error}"
    console.print(f"{name} ({time.monotonic() - began:.0f} s): {verdict}", highlight=False)
    return verdict


def main() -> None:
    """Run it, write the results, and fail if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="of workers")
    parser.add_argument("--postmaster-kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--minutes", type=float, default=12, help="after which kills end")
    given = parser.parse_args()
    found = torture(Plan(given.kills, given.postmaster_kills, given.seed, given.minutes))
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    console.print_json(json.dumps(found))
    bad = [name for name, verdict in found["faults"].items() if verdict.startswith("FAILED")]
    wrong = sum(found[kind] for kind in ("lost", "duplicate", "stale", "failed"))
    sys.exit(1 if bad or wrong or found["takeover_s_max"] >= 2 else 0)


if __name__ == "__main__":
    main()

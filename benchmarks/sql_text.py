"""Text queries from SQL, what triggers cost a writer, and the worker beside pgai's.

Run ``python -m benchmarks.sql_text``: it writes results/sql_text.json and sql_text.md. ``--quick``
does the same with less of everything into sql_text_quick.json and .md; ``--only`` measures a part
anew and keeps the others. Everything runs on a temporary server with PostgreSQL's own durability.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import sql_text_capture, sql_text_latency, sql_text_pgai
from benchmarks.data import RESULTS
from pgembed.server import EmbeddedServer

SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "8GB", "checkpoint_timeout": "1d"}
"""No checkpoint begins by itself, so that none falls into one side of a comparison."""

MEASURES: dict[str, Callable[..., dict[str, Any]]] = {
    "latency": sql_text_latency.measure,
    "capture": sql_text_capture.measure,
    "pgai": sql_text_pgai.measure,
}

REPORTS: tuple[Callable[[dict[str, Any]], list[str]], ...] = (
    sql_text_latency.report,
    sql_text_capture.report,
    sql_text_pgai.report,
)

console = Console()


@contextmanager
def server() -> Iterator[str]:
    """URL of a server that is thrown away afterwards."""
    home = Path(tempfile.mkdtemp(prefix="pgembed-bench-"))
    home.chmod(0o755)  # as root the server runs under another account
    try:
        with EmbeddedServer(home, settings=SETTINGS) as running:
            yield running.url
    finally:
        shutil.rmtree(home, ignore_errors=True)


def machine() -> dict[str, Any]:
    """Where this ran, and how busy it was before."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def rounded(found: Any) -> Any:
    """Four significant digits: more would pretend to a precision that timings lack."""
    if isinstance(found, dict):
        return {key: rounded(value) for key, value in found.items()}
    return float(f"{found:.4g}") if isinstance(found, float) else found


def report(result: dict[str, Any]) -> str:
    """The result as a Markdown page."""
    lines = [line for part in REPORTS for line in part(result)]
    where = result["machine"]
    by_part = ", ".join(f"{name} {load}" for name, load in where["load_average_before"].items())
    about = (
        f"{where['cores']} cores ({where['processor']}), Python {where['python']}."
        f" Load average before each part: {by_part}."
    )
    return "\n".join(
        ["# Text queries from SQL, capture of changes, workers", "", about, "", *lines]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small: under three minutes")
    parser.add_argument(
        "--only", choices=list(MEASURES), action="append", help="measure this part anew"
    )
    options = parser.parse_args()
    target = RESULTS / ("sql_text_quick.json" if options.quick else "sql_text.json")
    kept = json.loads(target.read_text()) if options.only and target.exists() else {}
    loads = kept.get("machine", {}).get("load_average_before", {})
    started = time.perf_counter()
    with server() as url:
        for part in options.only or MEASURES:
            console.rule(part)
            here = machine()
            loads[part] = here["load_average_before"]
            kept |= rounded(MEASURES[part](url, quick=options.quick))
            kept["machine"] = here | {"load_average_before": loads}
    kept["quick"] = options.quick
    console.print(report(kept), markup=False)
    console.print(f"{time.perf_counter() - started:.0f} seconds")
    RESULTS.mkdir(exist_ok=True)
    target.write_text(json.dumps(kept, indent=2) + "\n")
    target.with_suffix(".md").write_text(report(kept))


if __name__ == "__main__":
    main()

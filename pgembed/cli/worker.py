"""The commands ``worker``, ``status``, ``pause``, ``resume`` and ``retry``."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from pgembed.cli.common import (
    Json,
    Url,
    connected,
    console,
    print_json,
    print_table,
    printable,
    resolve_url,
)
from pgembed.errors import InputError

Name = Annotated[str, typer.Argument(help="Collection.")]


def worker(  # noqa: PLR0913 - one option a knob of the worker
    collections: Annotated[
        list[str] | None,
        typer.Option(help="A collection to serve; repeat for several. Default: all."),
    ] = None,
    concurrency: Annotated[
        int, typer.Option(help="Sessions that embed documents; 0 answers queries only.")
    ] = 1,
    queries: Annotated[
        bool, typer.Option("--queries/--no-queries", help="Answer the query texts of SQL sessions.")
    ] = True,
    rate: Annotated[
        float | None, typer.Option(help="Most rows a second and session, to spare the database.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Rows that are written in one transaction.")] = 64,
    poll: Annotated[float, typer.Option(help="Seconds between looks at an empty queue.")] = 0.2,
    lease: Annotated[
        float, typer.Option(help="Seconds after which others take the rows of a hanging worker.")
    ] = 60,
    cache_ttl: Annotated[
        float, typer.Option(help="Seconds that the vector of a query text is kept for.")
    ] = 86_400,
    cache_size: Annotated[int, typer.Option(help="Query texts whose vectors are kept.")] = 10_000,
    once: Annotated[
        bool, typer.Option("--once", help="End when nothing waits; exit status 1 if rows failed.")
    ] = False,
    log: Annotated[str, typer.Option(help="text or json, on standard error.")] = "text",
    health_port: Annotated[
        int | None, typer.Option(help="Port for /health and /metrics (Prometheus).")
    ] = None,
    health_host: Annotated[str, typer.Option(help="Address that it listens at.")] = "127.0.0.1",
    url: Url = None,
) -> None:
    """Answer query texts from SQL, and keep collections in step, until stopped.

    Run any number on any machines: they share the work, and the rows of one that dies are taken
    over at once. Ctrl-C and SIGTERM finish the batch at hand.

    Example: pgembed worker --log json --health-port 8080
    """
    try:
        from pgembed.worker import WorkerOptions, run
        from pgembed.worker.counters import Counters
        from pgembed.worker.health import serve
        from pgembed.worker.logs import set_up
    except ModuleNotFoundError as error:
        raise InputError(
            f"the worker needs {error.name}", hint="pip install 'pgembed-router[worker]'"
        ) from error
    if log not in ("text", "json"):
        raise InputError(f"there is no log format {log!r}", hint="Formats are text, json.")
    set_up(log, sys.stderr)
    options = WorkerOptions(
        url=resolve_url(url),
        collections=tuple(collections) if collections else None,
        concurrency=concurrency,
        queries=queries,
        batch_rows=batch,
        rate=rate,
        poll=poll,
        lease=lease,
        cache_ttl=cache_ttl,
        cache_size=cache_size,
        once=once,
    )
    counters = Counters()
    if health_port is not None:
        serve(counters, health_host, health_port)
    try:
        run(options, counters=counters)
    finally:
        logging.shutdown()
    if once and (counters.failures or counters.last_error):
        raise typer.Exit(1)


def status(url: Url = None, json: Json = False) -> None:
    """Show workers, what waits in each collection and since when, and what failed.

    Exit status 1 when something waits and no worker is connected, or rows failed.
    """
    from pgembed.collections import list_collections
    from pgembed.workers import list_workers, recent_failures, waiting_requests

    with connected(url) as connection:
        workers = list_workers(connection)
        collections = list_collections(connection)
        failures = recent_failures(connection)
        requests = waiting_requests(connection)
    alive = any(each.alive for each in workers)
    waiting = requests > 0 or any(each.stale for each in collections)
    if json:
        print_json(
            {
                "workers": workers,
                "collections": collections,
                "waiting_requests": requests,
                "failures": failures,
            }
        )
    else:
        print_table(
            ("worker", "host", "pid", "alive", "queries", "rows", "rows/s", "failed", "last error"),
            [
                (
                    *(each.id, each.host, each.pid, each.alive, each.requests, each.documents),
                    *(round(each.throughput, 1), each.failures, each.last_error),
                )
                for each in workers
            ],
        )
        print_table(
            ("collection", "chunks", "waiting", "oldest", "failed", "indexed", "paused"),
            [
                (
                    *(each.name, each.chunks, each.stale, each.oldest, each.failed, each.indexed),
                    each.paused_at,
                )
                for each in collections
            ],
        )
        for failure in failures:
            console.print(printable(f"failed: {failure.collection} {failure.key}: {failure.error}"))
    if (waiting and not alive) or any(each.failed for each in collections):
        raise typer.Exit(1)


def pause(name: Name, url: Url = None) -> None:
    """Stop embedding a collection; searches and writers go on, and changes wait."""
    from pgembed.workers import pause as run

    with connected(url) as connection:
        run(connection, name)
    console.print(f"{name} is paused. Let it go on: pgembed resume {name}")


def resume(name: Name, url: Url = None) -> None:
    """Let a paused collection go on."""
    from pgembed.workers import resume as run

    with connected(url) as connection:
        run(connection, name)
    console.print(f"{name} goes on.")


def retry(
    name: Annotated[
        str | None, typer.Argument(help="Collection; default: all.", show_default=False)
    ] = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """Put rows that failed back into the queue, and say why they had failed."""
    from pgembed.collections import list_collections
    from pgembed.workers import recent_failures
    from pgembed.workers import retry as run

    with connected(url) as connection:
        names = [name] if name else [each.name for each in list_collections(connection)]
        reasons = recent_failures(connection, name)
        counts = {each: run(connection, each) for each in names}
    if json:
        print_json(counts)
        return
    for failure in reasons:
        console.print(printable(f"{failure.collection} {failure.key}: {failure.error}"))
    for each, count in counts.items():
        console.print(f"{each}: {count} rows are tried again")

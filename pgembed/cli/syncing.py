"""The command ``sync``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer
from psycopg import sql
from rich.progress import Progress, TaskID

from pgembed.cli.common import (
    Json,
    Url,
    connected,
    console,
    errors,
    print_json,
    printable,
    progress_bar,
)
from pgembed.errors import PgembedError
from pgembed.model import SyncReport


def sync(
    name: Annotated[
        str | None,
        typer.Argument(help="Collection; default: every collection.", show_default=False),
    ] = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """Embed the rows that are new or changed, and build the index after the first load.

    Stop it with Ctrl-C at any moment: what is written stays, and the next run goes on from there.
    Exit status 1 when rows failed (they are in pgembed.failure with their reason), or a whole
    collection; the others are still synced.
    """
    from pgembed.collections import list_collections
    from pgembed.syncing import sync as run

    reports: list[SyncReport] = []
    stopped: list[str] = []
    with connected(url) as connection:
        names = [name] if name else [each.name for each in list_collections(connection)]
        for each in names:
            with progress_bar(each, quiet=json) as progress:
                task = progress.task_ids[0]
                try:
                    report = run(connection, each, on_progress=_advance(progress, task))
                except PgembedError as error:
                    # One collection whose source is gone must not keep the others from their sync.
                    stopped.append(f"pgembed: {each}: {error}")
                    continue
                progress.update(task, completed=report.documents, total=report.documents)
            reports.append(report)
    if json:
        print_json(reports)
    elif names:
        _print(reports)
    else:
        console.print("There are no collections. Make one: pgembed collection create --help")
    for message in stopped:
        errors.print(printable(message), style="red")
    if stopped or any(report.failed for report in reports):
        raise typer.Exit(1)


def refresh(
    name: Annotated[str, typer.Argument(help="Collection whose words are counted.")],
    url: Url = None,
    json: Json = False,
) -> None:
    """Count the words of a collection anew, which hybrid searches weigh words by.

    Every batch of a sync is counted as it is written. This also forgets deleted rows, weighs the
    chunks again where their average length moved by more than 10 %, and weighs those that a bulk
    loader wrote itself.

    Example: pgembed refresh papers
    """
    from pgembed.collections import refresh as run

    with connected(url) as connection:
        counted = run(connection, name)
    if json:
        print_json(counted)
    else:
        console.print(
            f"{name}: {counted.documents} chunks, {counted.lexemes} words,"
            f" {counted.average_length:.1f} words a chunk; {counted.rewritten} chunks weighed again"
        )


def _advance(progress: Progress, task: TaskID) -> Callable[[int, int], None]:
    return lambda done, total: progress.update(task, completed=done, total=total)


def _print(reports: list[SyncReport]) -> None:
    for report in reports:
        console.print(
            f"{report.collection}: {report.documents} rows in step, {report.chunks} chunks,"
            f" {report.encoded} encoded, {report.seconds:.1f} s"
        )
        for key, reason in report.failed[:5]:
            errors.print(f"  failed: {key}: {reason}", style="red")
        if report.failed:
            retry = sql.SQL("select pgembed.retry({});").format(report.collection).as_string(None)
            errors.print(f"  {len(report.failed)} rows failed; try again with: {retry}")

"""The commands ``calibrate`` and ``audit``: what searches cost, and what they find."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pgembed.cli.common import (
    Json,
    Url,
    connected,
    console,
    print_json,
    print_table,
    progress_bar,
)
from pgembed.cli.search import conditions_of

app = typer.Typer(no_args_is_help=True, help="Check what searches return.")


def calibrate(
    name: Annotated[str, typer.Argument(help="A collection with an index, the largest one.")],
    url: Url = None,
    json: Json = False,
) -> None:
    """Measure on this server up to how many matching rows an exact search is the cheaper one.

    Takes some seconds; best on a quiet server. All collections use the result.

    Example: pgembed calibrate papers
    """
    from pgembed.database import rows_of, translated

    with connected(url) as connection, translated(), console.status("Measuring ..."):
        rows = rows_of(connection, "select * from pgembed.calibrate(%s)", (name,))
    if json:
        print_json({cost: {"before": before, "microseconds": now} for cost, before, now in rows})
    else:
        print_table(("cost", "microseconds before", "now"), rows)


@app.command()
def recall(  # noqa: PLR0913 - one option a choice of what is asked
    name: Annotated[str, typer.Argument(help="Collection to audit.")],
    queries: Annotated[
        Path | None, typer.Option(help="Text file, a query a line. Default: cached queries.")
    ] = None,
    filter: Annotated[
        list[str] | None, typer.Option(help="Json conditions to search with; repeat for several.")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Rows of a search.")] = 10,
    sample: Annotated[int, typer.Option(help="Queries, where there is no file of them.")] = 100,
    plot: Annotated[Path | None, typer.Option(help="Draw recall and pages into this file.")] = None,
    at_least: Annotated[
        float | None, typer.Option(help="Exit with status 1 if recall is lower in any band.")
    ] = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """Compare searches with exact ones: recall, rows and pages by how much a filter matches.

    Exit status 1 when a search returned fewer rows than match.

    Example: pgembed audit recall papers --filter '{"year": {"gte": 2020}}' --plot recall.png
    """
    from pgembed import auditing

    texts = None if queries is None else _lines(queries)
    with connected(url) as connection, progress_bar("Searches", quiet=json) as progress:
        audited = auditing.audit_recall(
            connection,
            name,
            queries=texts,
            filters=[conditions_of(each) or {} for each in filter or ()],
            k=k,
            sample=sample,
            on_progress=lambda done, total: progress.update(
                progress.task_ids[0], completed=done, total=total
            ),
        )
    bands = auditing.by_band(audited)
    if plot is not None:
        auditing.plot(bands, plot)
    if json:
        print_json(bands)
    else:
        print_table(
            ("band", "plan", "searches", "recall", "under-filled", "pages"),
            [(b.band, b.plan, b.searches, b.recall, b.under_filled, b.buffers) for b in bands],
        )
    low = at_least is not None and any(b.recall is not None and b.recall < at_least for b in bands)
    if low or any(b.under_filled for b in bands):
        raise typer.Exit(1)


def _lines(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"cannot read {str(file)!r}: {error}") from error
    return [line for line in lines if line.strip()]

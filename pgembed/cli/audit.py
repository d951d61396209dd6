"""The commands ``audit``: what searches find, beside exact ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pgembed.auditing import AuditedBand
from pgembed.cli.common import (
    Json,
    Url,
    connected,
    errors,
    print_json,
    print_table,
    printable,
    progress_bar,
)
from pgembed.cli.search import conditions_of

app = typer.Typer(no_args_is_help=True, help="Check what searches return, and what is stored.")


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
    from pgembed.plotting import check_plot

    if plot is not None:
        check_plot(plot)
    texts = None if queries is None else _lines(queries)
    conditions = [conditions_of(each) or {} for each in filter or ()]
    with connected(url) as connection, progress_bar("Searches", quiet=json) as progress:
        audited = auditing.audit_recall(
            connection,
            name,
            queries=texts,
            filters=conditions,
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
            ("band", "plan", "searches", "recall", "rows", "of", "under-filled", "pages"),
            [
                (
                    each.band,
                    each.plan,
                    each.searches,
                    each.recall,
                    each.returned,
                    each.wanted,
                    each.under_filled,
                    round(each.buffers),
                )
                for each in bands
            ],
        )
    if complaints := _complaints(bands, at_least):
        for each in complaints:
            errors.print(each, style="red")
        raise typer.Exit(1)


def _complaints(bands: Sequence[AuditedBand], at_least: float | None) -> list[str]:
    """Why the audit fails, a sentence for each band."""
    found = []
    for each in bands:
        place = f"{each.band} ({each.plan})"
        if each.under_filled:
            found.append(
                f"{place}: {each.under_filled} of {each.searches} searches returned fewer rows"
                " than match"
            )
        if at_least is not None and each.recall is not None and each.recall < at_least:
            found.append(f"{place}: recall {each.recall:.4f} is below {at_least:g}")
    return found


@app.command()
def sync(
    name: Annotated[str, typer.Argument(help="Collection to check.")],
    url: Url = None,
    json: Json = False,
) -> None:
    """Cut every row anew and compare with the stored chunks: is anything lost, old or left over?

    Rows that wait or failed are not compared; pgembed status counts them. Exit status 1 when
    something is found; pgembed.mark_stale repairs it.

    Example: pgembed audit sync papers
    """
    from pgembed.checking import audit_sync
    from pgembed.collections import list_collections

    with connected(url) as connection, progress_bar(name, quiet=json) as progress:
        chunks = {each.name: each.chunks for each in list_collections(connection)}
        task = progress.task_ids[0]
        progress.update(task, total=chunks.get(name))
        audit = audit_sync(
            connection, name, on_progress=lambda rows: progress.update(task, completed=rows)
        )
        progress.update(task, completed=audit.rows, total=audit.rows)
    if json:
        print_json(audit)
    else:
        print_table(
            ("rows", "lost", "stale", "left over"),
            [(audit.rows, audit.lost_count, audit.stale_count, audit.left_over_count)],
        )
        for kind in ("lost", "stale", "left_over"):
            for key in getattr(audit, kind):
                errors.print(printable(f"{kind.replace('_', ' ')}: {key}"))
    if not audit.clean:
        raise typer.Exit(1)


def _lines(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"cannot read {str(file)!r}: {error}") from error
    return [line for line in lines if line.strip()]

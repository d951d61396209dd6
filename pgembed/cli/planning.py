"""The command ``calibrate``: what searches cost on this server."""

from __future__ import annotations

from typing import Annotated

import typer

from pgembed.cli.common import Json, Url, connected, console, errors, print_json, print_table

COLUMNS = ("name", "unit", "before", "after", "note")
"""What ``pgembed.calibrate`` returns, in its order."""


def calibrate(
    name: Annotated[
        str | None, typer.Argument(help="A collection with an index, the largest one.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Time that measuring may take.")] = 5,
    reset: Annotated[
        bool, typer.Option("--reset", help="Forget what was measured; needs no collection.")
    ] = False,
    url: Url = None,
    json: Json = False,
) -> None:
    """Measure on this server up to how many matching rows an exact search is the cheaper one.

    Takes some seconds; best on a quiet server. All collections use the result.

    Example: pgembed calibrate papers
    """
    if reset:
        _reset(url, json)
        return
    if name is None:
        raise typer.BadParameter("a collection to measure with is missing", param_hint="NAME")
    from pgembed.database import rows_of, translated

    # On standard error, so that it is no part of what a program reads.
    with connected(url) as connection, translated(), errors.status("Measuring ..."):
        rows = rows_of(
            connection,
            "select name, unit, before, after, note from pgembed.calibrate(%s, %s::float8)",
            (name, seconds),
        )
    if json:
        print_json([dict(zip(COLUMNS, row, strict=True)) for row in rows])
        return
    print_table(
        COLUMNS[:4],
        [(label, unit, _figure(before), _figure(after)) for label, unit, before, after, _ in rows],
    )
    for label, *_, note in rows:
        if note:
            console.print(f"{label}: {note}", style="yellow")


def _reset(url: str | None, json: bool) -> None:
    """Delete the costs: the usual ratio serves again."""
    from pgembed.database import rows_of, translated

    with connected(url) as connection, translated():
        rows = rows_of(
            connection, "delete from pgembed.planner_cost returning name, microseconds", ()
        )
    if json:
        print_json({"forgotten": dict(sorted(rows))})
    elif rows:
        console.print("Forgotten. Searches weigh the index by its usual costs again.")
    else:
        console.print("Nothing was measured. Searches weigh the index by its usual costs.")


def _figure(value: float | None) -> str | None:
    """Four digits that count: costs are fractions of a microsecond, thresholds thousands."""
    if value is None:
        return None
    return f"{value:,.0f}" if value >= 100 else f"{value:.4g}"

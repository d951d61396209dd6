"""The command ``search``."""

from __future__ import annotations

import json as json_module
from typing import Annotated, Any

import typer

from pgembed.cli.common import Json, Url, connected, console, print_json, print_table, printable
from pgembed.errors import FilterError, InputError
from pgembed.searching import Explanation

SHOWN_CHARACTERS = 90


def search(  # noqa: PLR0913 - one option a knob of the search
    collection: Annotated[str, typer.Argument(help="Collection to search.")],
    text: Annotated[str, typer.Argument(help="The query.")],
    k: Annotated[int, typer.Option("-k", help="Rows to return.")] = 10,
    filter: Annotated[
        str | None,
        typer.Option(help='Json conditions on the table\'s columns: \'{"year": {"gte": 2020}}\'.'),
    ] = None,
    mode: Annotated[str, typer.Option(help="soft, hard, base, or the name of an expert.")] = "soft",
    hybrid: Annotated[bool, typer.Option("--hybrid", help="Also rank by words.")] = False,
    lexical_weight: Annotated[
        float | None,
        typer.Option(help="Weight of the words, 0 to 1; default: as fitted, else 0.3."),
    ] = None,
    fusion: Annotated[
        str | None, typer.Option(help="zscore, minmax or rrf; default: as fitted, else zscore.")
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="A text that rows should not be about; repeat for several."),
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(help="Leave out rows of a lower score.")
    ] = None,
    offset: Annotated[int, typer.Option(help="Rows to skip.")] = 0,
    after: Annotated[
        str | None, typer.Option(help="Cursor of the last row of the page before, from --json.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="A column of the table to return; repeat for several.")
    ] = None,
    group_by: Annotated[
        str | None, typer.Option(help="A column of whose every value few rows come back.")
    ] = None,
    per_group: Annotated[int, typer.Option(help="Rows of one value of --group-by.")] = 1,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say which experts answered and how rows were found.")
    ] = False,
    buffers: Annotated[
        bool, typer.Option("--buffers", help="With --explain: count the pages that it touches.")
    ] = False,
    url: Url = None,
    json: Json = False,
) -> None:
    """Search a collection; returns as many rows as match, up to k.

    Example: pgembed search papers "sparse attention" --filter '{"year": {"gte": 2020}}' -k 5
    """
    from pgembed import searching

    options: searching.SearchOptions = {
        "k": k,
        "filter": conditions_of(filter),
        "mode": mode,
        "hybrid": hybrid,
        "lexical_weight": lexical_weight,
        "fusion": fusion,
        "exclude": exclude or None,
        "min_score": min_score,
        "offset": offset,
        "after": _cursor(after),
        "columns": column or None,
        "group_by": group_by,
        "per_group": per_group,
    }
    with connected(url) as connection:
        if explain:
            found = searching.explain(connection, collection, text, buffers=buffers, **options)
            hits = found.hits
        else:
            hits = searching.search(connection, collection, text, **options)
    if json:
        print_json(found if explain else hits)
        return
    print_table(
        ("rank", "score", "key", "content", *(column or ())),
        [
            (
                hit.rank,
                hit.score,
                hit.key,
                " ".join(hit.content.split())[:SHOWN_CHARACTERS],
                *((hit.fields or {})[name] for name in column or ()),
            )
            for hit in hits
        ],
    )
    if explain:
        _print_course(found)


def conditions_of(text: str | None) -> dict[str, Any] | None:
    """A filter as it is written on the command line."""
    if text is None:
        return None
    try:
        value = json_module.loads(text)
    except ValueError as error:
        raise FilterError(
            f"the filter is not json: {error}", hint='For example \'{"year": {"gte": 2020}}\'.'
        ) from error
    if not isinstance(value, dict):
        raise FilterError(f"a filter is a json object of columns, not {text[:100]}")
    return value


def _cursor(text: str | None) -> list[Any] | None:
    if text is None:
        return None
    try:
        value = json_module.loads(text)
    except ValueError as error:
        raise InputError(f"the cursor is not json: {error}") from error
    if not isinstance(value, list):
        raise InputError(f"a cursor is a json array, not {text[:100]}")
    return value


def _print_course(found: Explanation) -> None:
    """The steps of a search, a row each; the hits stand in the table above."""
    print_table(
        ("step", "what happened"),
        [(step.name, step.detail) for step in found.steps if step.name != "hits"],
    )
    if found.route.reason:
        console.print(printable(found.route.reason), highlight=False, markup=False)
        console.print(f"{found.route.passes:g} passes through the encoder", highlight=False)

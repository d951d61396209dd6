"""The command ``search``."""

from __future__ import annotations

import json as json_module
from typing import Annotated, Any

import typer

from pgembed.cli.common import Json, Url, connected, console, print_json, print_table
from pgembed.errors import FilterError
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
    explain: Annotated[
        bool, typer.Option("--explain", help="Say which experts answered and how rows were found.")
    ] = False,
    url: Url = None,
    json: Json = False,
) -> None:
    """Search a collection; returns as many rows as match, up to k.

    Example: pgembed search papers "sparse attention" --filter '{"year": {"gte": 2020}}' -k 5
    """
    from pgembed import searching

    with connected(url) as connection:
        found = searching.explain(
            connection,
            collection,
            text,
            k=k,
            filter=_conditions(filter),
            mode=mode,
            hybrid=hybrid,
        )
    if json:
        print_json(found if explain else found.hits)
    else:
        _print(found, explain=explain)


def _conditions(text: str | None) -> dict[str, Any] | None:
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


def _print(found: Explanation, *, explain: bool) -> None:
    print_table(
        ("rank", "score", "key", "content"),
        [
            (hit.rank, hit.score, hit.key, " ".join(hit.content.split())[:SHOWN_CHARACTERS])
            for hit in found.hits
        ],
    )
    if explain:
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in found.route.weights.items())
        console.print(f"route ({found.route.mode}): {weights}", highlight=False, markup=False)
        console.print(f"  {found.route.reason}", highlight=False, markup=False)
        scores = ", ".join(f"{name} {score:.3f}" for name, score in found.route.scores.items())
        if scores:
            console.print(f"  similarity to pilots: {scores}", highlight=False, markup=False)
        console.print(f"plan: {found.plan.plan}", highlight=False, markup=False)
        console.print(f"  {found.plan.why}", highlight=False, markup=False)

"""What every command shares: the connection, the two ways of printing, the progress bar."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from pgembed.database import Connection, connect

# Names and texts of users are printed as they are: "[/usr]" is no markup, ":smile:" no emoji.
console = Console(markup=False, emoji=False)
errors = Console(stderr=True, markup=False, emoji=False)

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="PGEMBED_URL",
        help="Connection string of libpq. Default: the embedded server, if it runs; else the"
        " environment (PGHOST, PGDATABASE, ...).",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print json for a program to read.")]


def resolve_url(url: str | None) -> str:
    """The given URL, the running embedded server's, or libpq's own environment."""
    if url or os.environ.get("PGHOST") or os.environ.get("PGSERVICE"):
        return url or ""
    from pgembed.server import status

    return status().url or ""


@contextmanager
def connected(url: str | None) -> Iterator[Connection]:
    """A connection for the time of one command."""
    with connect(resolve_url(url)) as connection:
        yield connection


def print_json(value: object) -> None:
    """Print values, dataclasses included, as indented json."""
    typer.echo(json.dumps(_plain(value), indent=2, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Print rows as a table; numbers stand to the right."""
    table = Table(title=title or None, title_justify="left")
    listed = [list(row) for row in rows]
    for number, column in enumerate(columns):
        numeric = all(isinstance(row[number], int | float) for row in listed)
        table.add_column(column, justify="right" if numeric and listed else "left")
    for row in listed:
        table.add_row(*[_cell(value) for value in row])
    console.print(table)


@contextmanager
def progress_bar(label: str, *, quiet: bool = False) -> Iterator[Progress]:
    """A progress bar on standard error, with the time left."""
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=errors,
        disable=quiet,
        transient=False,
    ) as progress:
        progress.add_task(label, total=None)
        yield progress


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else printable(str(value))


def printable(text: str) -> str:
    """The text without control characters, which could steer the terminal."""
    return "".join(each if each.isprintable() or each == "\n" else "\ufffd" for each in text)


def _plain(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value

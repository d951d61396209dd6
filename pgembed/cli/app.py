"""All commands in one tree."""

from __future__ import annotations

from typing import Annotated

import typer

from pgembed import __version__
from pgembed.cli import audit, collection, encoder, expert, fusion, planning, router, search, server
from pgembed.cli.common import Json, Url, console, print_json, resolve_url
from pgembed.cli.demo import demo
from pgembed.cli.syncing import refresh, sync

app = typer.Typer(
    name="pgembed",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Retrieval in PostgreSQL that knows its domains: embed once, route each query to tiny"
    " experts, search with filters.\n\nStart with **pgembed demo**, or with your own data:"
    " **server start**, **migrate**, **encoder add minilm**, **collection create**, **sync**,"
    " **search**.",
)
app.add_typer(server.app, name="server")
app.add_typer(encoder.app, name="encoder")
app.add_typer(collection.app, name="collection")
app.add_typer(expert.app, name="expert")
app.add_typer(router.app, name="router")
app.add_typer(fusion.app, name="fusion")
app.command("sync")(sync)
app.command("refresh")(refresh)
app.command("search")(search.search)
app.command("calibrate")(planning.calibrate)
app.add_typer(audit.app, name="audit")
app.command("demo")(demo)


@app.command()
def migrate(
    url: Url = None,
    revision: Annotated[
        str,
        typer.Option(help="Revision to reach: head, or base to remove all that pgembed made."),
    ] = "head",
    sql: Annotated[
        bool, typer.Option("--sql", help="Print the statements of an installation; run nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Install pgembed's schema in a database, or upgrade it; again changes nothing.

    The user becomes the owner of schemas pgembed and pgembed_data. No superuser is needed where
    the extension vector exists.
    """
    from pgembed import schema

    if sql:
        typer.echo(schema.migration_sql())
        return
    done = schema.migrate(resolve_url(url), revision=revision)
    if json:
        print_json(done)
        return
    if done.before == done.after:
        console.print(f"Schema pgembed is at {done.after or 'nothing'} already; functions renewed.")
    else:
        console.print(f"Schema pgembed: {done.before or 'nothing'} -> {done.after or 'removed'}.")
    if done.advice:
        console.print(f"Advice: {done.advice}", style="yellow")


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"pgembed {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options of the command itself."""

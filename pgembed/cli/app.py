"""All commands in one tree."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pgembed import __version__
from pgembed.cli import (
    audit,
    collection,
    encoder,
    expert,
    expert_more,
    fusion,
    judgments,
    planning,
    router,
    search,
    server,
)
from pgembed.cli.common import Json, Url, console, print_json, resolve_url
from pgembed.cli.demo import demo
from pgembed.cli.doctor import doctor
from pgembed.cli.evaluate import evaluate
from pgembed.cli.syncing import refresh, sync

if TYPE_CHECKING:
    from pgembed.loopback import Loopback
    from pgembed.schema import Migration
from pgembed.cli.worker import pause, resume, retry, status, worker

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
expert.app.command("merge")(expert_more.merge)
expert.app.command("describe")(expert_more.describe)
expert.app.command("recommend")(expert_more.recommend)
app.add_typer(expert.app, name="expert")
app.add_typer(router.app, name="router")
app.add_typer(fusion.app, name="fusion")
app.add_typer(judgments.app, name="judgments")
app.command("sync")(sync)
app.command("refresh")(refresh)
app.command("worker")(worker)
app.command("status")(status)
app.command("pause")(pause)
app.command("resume")(resume)
app.command("retry")(retry)
app.command("search")(search.search)
app.command("evaluate")(evaluate)
app.command("calibrate")(planning.calibrate)
app.add_typer(audit.app, name="audit")
app.command("doctor")(doctor)
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
    sql_encode: Annotated[
        bool,
        typer.Option(
            "--sql-encode",
            help="Also set up searches with a text from plain SQL; with --sql, print how.",
        ),
    ] = False,
    loopback_host: Annotated[
        str | None,
        typer.Option(
            help="How the server reaches itself; several hosts with commas between them.",
        ),
    ] = None,
    loopback_port: Annotated[
        int | None, typer.Option(help="Port of that host; default: the server's own.")
    ] = None,
    json: Json = False,
) -> None:
    """Install pgembed's schema in a database, or upgrade it; again changes nothing.

    The user becomes the owner of schemas pgembed and pgembed_data. No superuser is needed where
    the extension vector exists; with --sql-encode, where dblink exists and the user may create
    roles.
    """
    from pgembed import loopback, schema

    if sql_encode and revision != "head":
        raise typer.BadParameter("text queries need the newest revision", param_hint="--sql-encode")
    if sql:
        typer.echo(
            loopback.loopback_sql(host=loopback_host, port=loopback_port)
            if sql_encode
            else schema.migration_sql()
        )
        return
    done = schema.migrate(resolve_url(url), revision=revision)
    reached = None
    if sql_encode:
        reached = loopback.set_up_loopback(resolve_url(url), host=loopback_host, port=loopback_port)
    if json:
        print_json({**asdict(done), "loopback": reached} if reached else done)
        return
    _tell(done, reached)


def _tell(done: Migration, reached: Loopback | None) -> None:
    if done.before == done.after:
        console.print(f"Schema pgembed is at {done.after or 'nothing'} already; functions renewed.")
    else:
        console.print(f"Schema pgembed: {done.before or 'nothing'} -> {done.after or 'removed'}.")
    if done.advice:
        console.print(f"Advice: {done.advice}", style="yellow")
    if reached:
        console.print(
            f"Text queries from SQL: sessions reach the database by {reached.host} as role"
            f" {reached.role}. Start a worker: pgembed worker"
        )


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

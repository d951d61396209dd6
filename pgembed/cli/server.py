"""``pgembed server``: run the embedded PostgreSQL from a terminal."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pgembed.server import EmbeddedServer, ServerStatus
from pgembed.server import status as server_status
from pgembed.server import stop as stop_server

app = typer.Typer(
    no_args_is_help=True,
    help="Run PostgreSQL with pgvector from a Python wheel: no installation, no Docker.\n\n"
    "The server belongs to you, listens on 127.0.0.1 only and keeps its data in one directory, "
    "so it suits trying things, development and tests. Every command that takes a database URL "
    "works with any other PostgreSQL as well.",
)

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="PATH",
        show_default=False,
        help="The server's directory. Each directory is a server of its own. Default: "
        "$PGEMBED_HOME/server, else your user data directory (root: /var/lib/pgembed/server).",
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object, for programs. It holds the password."),
]


@app.command()
def start(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Start the server and let it run; if it runs already, say where.

    The first start makes the database (about a second). The server then runs until you say
    "pgembed server stop" or the machine stops, and outlives the programs that use it.

    Example: psql "$(pgembed server start --json | jq -r .url)"
    """
    with EmbeddedServer(home, keep=True):
        _show(server_status(home), as_json=as_json)


@app.command()
def stop(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Stop the server, even if programs still use it; committed data stays.

    Their connections are closed and their open transactions undone. "pgembed server start"
    brings everything back.
    """
    stopped = stop_server(home)
    if as_json:
        typer.echo(json.dumps({"stopped": stopped}))
    else:
        typer.echo("stopped" if stopped else "no server was running")


@app.command()
def status(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Say whether the server runs, where it listens and where its data lies.

    The exit status is 0 when it runs and 3 when it does not, as with systemctl.
    """
    found = server_status(home)
    _show(found, as_json=as_json)
    if not found.running:
        raise typer.Exit(3)


@app.command()
def url(home: HomeOption = None) -> None:
    """Print the URL to connect to, and nothing else; it holds the password.

    Fails when the server does not run.

    Example: pg_dump "$(pgembed server url)" > backup.sql
    """
    found = server_status(home)
    if found.url is None:
        typer.echo(f'no server runs in "{found.home}"', err=True)
        typer.echo("Hint: pgembed server start", err=True)
        raise typer.Exit(3)
    typer.echo(found.url)


def _show(found: ServerStatus, *, as_json: bool) -> None:
    """Print a status; for people without the password, which ``url`` prints on request."""
    if as_json:
        typer.echo(json.dumps(asdict(found) | {"home": str(found.home)}))
        return
    if found.running:
        typer.echo(f"running: PostgreSQL {found.version} on 127.0.0.1:{found.port}")
        typer.echo(f"process: {found.pid}")
        typer.echo("connect: pgembed server url")
    else:
        typer.echo("not running")
    typer.echo(f"home:    {found.home}")

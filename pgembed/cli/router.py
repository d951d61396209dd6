"""The router: build, show."""

from __future__ import annotations

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

app = typer.Typer(no_args_is_help=True, help="What chooses the experts of a query.")


@app.command()
def build(
    collection: Annotated[
        list[str], typer.Option(help="Whose judged queries to build on; repeat for several.")
    ],
    labels: Annotated[
        str,
        typer.Option(
            help="instance: each training query votes for its best expert, as in the paper;"
            " domain: a domain's queries go to the expert that is best on it."
        ),
    ] = "instance",
    url: Url = None,
    json: Json = False,
) -> None:
    """Build pilot embeddings from training queries, and fit soft routing on dev."""
    from pgembed.errors import InputError
    from pgembed.judgments import read_judged
    from pgembed.router_building import build_router

    if labels not in ("instance", "domain"):
        raise InputError(f"--labels is instance or domain, not {labels!r}")
    with connected(url) as connection, progress_bar("Building the router", quiet=json) as progress:
        judged = [read_judged(connection, each) for each in collection]
        built = build_router(
            connection, judged, labels="domain" if labels == "domain" else "instance"
        )
        progress.update(progress.task_ids[0], total=1, completed=1)
    if json:
        print_json(
            {
                "version": built.version,
                "temperature": built.fit.parameters.temperature,
                "standing": dict(built.fit.parameters.standing),
                "pilots": [(p.expert, p.domain, p.n) for p in built.pilots],
            }
        )
    else:
        print_table(
            ("expert", "domain", "queries"), [(p.expert, p.domain, p.n) for p in built.pilots]
        )
        console.print(
            f"Router version {built.version}: temperature {built.fit.parameters.temperature},"
            f" standing weights {dict(built.fit.parameters.standing)}"
        )


@app.command()
def show(
    encoder: Annotated[str, typer.Option(help="The encoder whose router to show.")] = "minilm",
    url: Url = None,
    json: Json = False,
) -> None:
    """Show the pilots and parameters of an encoder's router."""
    from pgembed.routing import load_router

    with connected(url) as connection:
        router = load_router(connection, encoder).pilots
    pilots = [(p.expert, p.domain, p.n) for p in router.pilots]
    parameters = {
        "temperature": router.parameters.temperature,
        "standing": dict(router.parameters.standing),
    }
    if json:
        print_json({**parameters, "pilots": pilots})
    elif pilots:
        print_table(("expert", "domain", "queries"), pilots)
        console.print(parameters)
    else:
        console.print(f"Encoder {encoder} has no router yet, so base answers every query.")

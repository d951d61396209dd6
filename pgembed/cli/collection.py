"""Collections: create, list, drop."""

from __future__ import annotations

from typing import Annotated

import typer

from pgembed.cli.common import Json, Url, connected, console, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Tables whose content is searchable.")


@app.command()
def create(  # noqa: PLR0913 - one option a property of the collection
    name: Annotated[str, typer.Argument(help="Name of the collection.")],
    source: Annotated[str, typer.Option(help="The table, as in SQL: public.papers.")],
    content: Annotated[list[str], typer.Option(help="A column to embed; repeat for several.")],
    encoder: Annotated[str, typer.Option(help="A registered encoder.")] = "minilm",
    key: Annotated[
        list[str] | None, typer.Option(help="Key columns; default: the primary key.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Longest chunk; default: all that the encoder takes.")
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Tokens that neighbouring chunks share; default: 1/8.")
    ] = None,
    language: Annotated[
        str, typer.Option(help="Text search configuration of the words.")
    ] = "english",
    expires: Annotated[
        str | None,
        typer.Option(help="A timestamptz column: rows leave search when it has passed."),
    ] = None,
    capture: Annotated[
        str, typer.Option(help="origin, or always where rows arrive by logical replication.")
    ] = "origin",
    url: Url = None,
) -> None:
    """Make the rows of a table searchable; then run pgembed sync.

    Example: pgembed collection create papers --source public.papers --content title
    --content abstract
    """
    from pgembed.collections import create_collection

    with connected(url) as connection:
        create_collection(
            connection,
            name,
            source=source,
            content=content,
            encoder=encoder,
            key=key,
            max_tokens=max_tokens,
            overlap=overlap,
            language=language,
            expires=expires,
            capture=capture,
        )
    console.print(f"Collection {name} is created. Embed its rows: pgembed sync {name}")


@app.command("list")
def list_(url: Url = None, json: Json = False) -> None:
    """List the collections: chunks, stale and failed rows."""
    from pgembed.collections import list_collections

    with connected(url) as connection:
        listed = list_collections(connection)
    if json:
        print_json(listed)
    else:
        print_table(
            ("collection", "source", "encoder", "chunks", "stale", "failed", "indexed", "paused"),
            [
                (
                    *(each.name, each.source, each.encoder, each.chunks, each.stale, each.failed),
                    each.indexed,
                    each.paused_at is not None,
                )
                for each in listed
            ],
        )


@app.command()
def drop(
    name: Annotated[str, typer.Argument(help="Name of the collection.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = None,
) -> None:
    """Remove a collection, its vectors and judgments; the source table stays."""
    from pgembed.collections import drop_collection

    if not yes:
        typer.confirm(f"Drop collection {name} with its vectors and judgments?", abort=True)
    with connected(url) as connection:
        drop_collection(connection, name)
    console.print(f"Collection {name} is dropped.")

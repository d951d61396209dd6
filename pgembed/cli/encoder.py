"""Encoders: add, list."""

from __future__ import annotations

from typing import Annotated

import typer

from pgembed.cli.common import Json, Url, connected, console, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Base models: each defines a vector space.")


@app.command()
def add(  # noqa: PLR0913 - one option a property of the model
    name: Annotated[str, typer.Argument(help="What to call it, for example minilm.")],
    source: Annotated[
        str | None,
        typer.Argument(
            help="A directory with model.onnx and tokenizer.json, hf:owner/name, or minilm."
            " Default: the name itself.",
            show_default=False,
        ),
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option(help="mean, cls, last or graph; default: what the model's files say."),
    ] = None,
    query_prefix: Annotated[str, typer.Option(help="Put before every query.")] = "",
    document_prefix: Annotated[str, typer.Option(help="Put before every document.")] = "",
    max_tokens: Annotated[int | None, typer.Option(help="Longest input in tokens.")] = None,
    dimensions: Annotated[
        int | None,
        typer.Option(help="Keep only the first so many dimensions (for Matryoshka models)."),
    ] = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """Open a model, take its fingerprint, and make it known to the database.

    Examples: pgembed encoder add minilm; pgembed encoder add e5 ./e5-small --query-prefix
    "query: " --document-prefix "passage: ".
    """
    from pgembed.registry import register_encoder

    with connected(url) as connection:
        spec = register_encoder(
            connection,
            source or name,
            name=name,
            pooling=pooling,
            query_prefix=query_prefix,
            document_prefix=document_prefix,
            max_tokens=max_tokens,
            dimensions=dimensions,
        )
    if json:
        print_json(spec)
    else:
        console.print(
            f"Encoder {spec.name}: {spec.dimensions} dimensions, {spec.max_tokens} tokens,"
            f" fingerprint {spec.fingerprint[:12]}."
        )


@app.command("list")
def list_(url: Url = None, json: Json = False) -> None:
    """List the registered encoders."""
    from pgembed.registry import list_encoders

    with connected(url) as connection:
        specs = list_encoders(connection)
    if json:
        print_json(specs)
    else:
        print_table(
            ("encoder", "dimensions", "max tokens", "pooling", "fingerprint", "source"),
            [
                (s.name, s.dimensions, s.max_tokens, s.pooling, s.fingerprint[:12], s.source)
                for s in specs
            ],
        )

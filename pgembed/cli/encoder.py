"""Encoders: add, list, prepare."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
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


@app.command()
def prepare(
    source: Annotated[
        str, typer.Argument(help="minilm, a directory with model.onnx, or hf:owner/name.")
    ],
    split: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="First layer of the upper half, where experts cost least. Default: the middle.",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Projection that takes adapters: query, key, value, attention_output,"
            " intermediate, output; repeat for several. Default: query and value.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write to. Default: lora/ beside the model's graph."),
    ] = None,
    json: Json = False,
) -> None:
    """Write a model in two halves with slots for LoRA experts, and check them against the model.

    Nothing is done where that was done before. The encoder minilm prepares itself when it is first
    needed. Example: pgembed encoder prepare ./e5-small --target query --target key --target value
    """
    from pgembed.encoders import open_encoder
    from pgembed.encoders.preparing import DEFAULT_TARGETS, lora_folder
    from pgembed.encoders.preparing import prepare as prepared

    encoder = open_encoder(source)
    place = out or lora_folder(encoder)
    manifest = prepared(encoder, split=split, targets=target or DEFAULT_TARGETS, folder=place)
    if json:
        print_json({"folder": str(place), **asdict(manifest)})
        return
    difference = manifest.base_difference
    console.print(
        f"{place}: {manifest.layers} layers, split before layer {manifest.split},"
        f" {len(manifest.slots)} slots; base vectors "
        + (f"differ by at most {difference:.1e}." if difference else "are the same bit for bit.")
    )

"""Experts from folders and into folders: import, export."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pgembed.cli.common import Json, Url, connected, console, print_json

Encoder = Annotated[str, typer.Option(help="The encoder that the expert belongs to.")]


class Kind(StrEnum):
    """Kinds of experts that lie in folders."""

    lora = "lora"
    linear = "linear"


def import_(
    folder: Annotated[Path, typer.Argument(help="Saved by PEFT, or by pgembed expert export.")],
    name: Annotated[str, typer.Argument(help="What to call the expert; replaced if it exists.")],
    kind: Annotated[
        Kind | None, typer.Option(help="Default: what the folder holds.", show_default=False)
    ] = None,
    encoder: Encoder = "minilm",
    domain: Annotated[
        str | None, typer.Option(help="The domain that it was trained on, if any.")
    ] = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """Register an expert that was trained elsewhere, as active.

    A LoRA adapter must sit on projections that the prepared encoder has slots for; see
    pgembed encoder prepare. Example: pgembed expert import ./my-adapter claims --kind lora
    """
    from pgembed.expert_folders import import_expert

    with connected(url) as connection:
        expert = import_expert(
            connection, encoder, name, folder, kind=kind and kind.value, domain=domain
        )
    found = {"name": name, "encoder": encoder, "kind": expert.kind, "rank": expert.rank}
    if json:
        print_json(found)
    else:
        console.print(f"Expert {name}: kind {expert.kind}, rank {expert.rank}, active.")


def export(
    name: Annotated[str, typer.Argument(help="Name of the expert.")],
    folder: Annotated[Path, typer.Argument(help="Made when it does not exist.")],
    encoder: Encoder = "minilm",
    base_model: Annotated[
        str | None,
        typer.Option(help="Name of the base model for PEFT; default: the encoder's source."),
    ] = None,
    url: Url = None,
) -> None:
    """Write an expert into a folder, for another database or, of kind lora, for PEFT.

    Example: pgembed expert export claims ./claims-adapter
    """
    from pgembed.expert_folders import export_expert

    with connected(url) as connection:
        expert = export_expert(connection, encoder, name, folder, base_model=base_model)
    console.print(f"Expert {name} of kind {expert.kind} is in {folder}.")

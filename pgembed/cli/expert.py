"""Experts: train, list, show, retire."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pgembed.cli.common import (
    Json,
    Url,
    connected,
    console,
    print_json,
    print_table,
)
from pgembed.cli.expert_folders import export, import_
from pgembed.cli.expert_record import print_record
from pgembed.cli.expert_train import train

app = typer.Typer(no_args_is_help=True, help="Query-side adapters, trained on judged queries.")

app.command()(train)
app.command("import")(import_)
app.command()(export)

Encoder = Annotated[str, typer.Option(help="The encoder that the expert belongs to.")]


@app.command("list")
def list_(
    encoder: Annotated[str | None, typer.Option(help="Only those of this encoder.")] = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """List experts with their state and their gain on dev."""
    from pgembed.experts import list_experts

    with connected(url) as connection:
        experts = list_experts(connection, encoder)
    if json:
        print_json(experts)
        return
    print_table(
        ("encoder", "expert", "kind", "state", "domain", "dev nDCG@10 (base -> expert)"),
        [(e.encoder, e.name, e.kind, e.state, e.domain, _gains(e.metrics)) for e in experts],
    )


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of the expert.")],
    encoder: Encoder = "minilm",
    plot: Annotated[Path | None, typer.Option(help="Draw curves and gains into this file.")] = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """Show how an expert came about: gains, what got worse, gate, settings; --json for all of it.

    Example: pgembed expert show claims --plot claims.png
    """
    from pgembed.errors import NotFoundError
    from pgembed.experts import list_experts
    from pgembed.training_plot import plot_expert

    with connected(url) as connection:
        experts = {expert.name: expert for expert in list_experts(connection, encoder)}
    if name not in experts:
        raise NotFoundError(
            f"encoder {encoder!r} has no expert {name!r}",
            hint=f"Its experts are {', '.join(sorted(experts)) or 'none'}.",
        )
    if plot is not None:
        plot_expert(experts[name], plot)
    if json:
        print_json(experts[name])
    else:
        print_record(experts[name])


@app.command()
def retire(
    name: Annotated[str, typer.Argument(help="Name of the expert.")],
    encoder: Encoder = "minilm",
    url: Url = None,
) -> None:
    """Take an expert out of routing at once; its row stays."""
    from pgembed.experts import retire_expert

    with connected(url) as connection:
        retire_expert(connection, encoder, name)
    console.print(f"Expert {name} is retired; no query is routed to it any more.")


def _gains(metrics: object) -> str:
    found = metrics.get("dev_ndcg_at_10", {}) if isinstance(metrics, dict) else {}
    return "; ".join(
        f"{domain or 'all'} {each['base']:.3f} -> {each['expert']:.3f}"
        for domain, each in found.items()
    )

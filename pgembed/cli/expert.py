"""Experts: train, list, show, retire."""

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

app = typer.Typer(no_args_is_help=True, help="Query-side adapters, trained on judged queries.")

Encoder = Annotated[str, typer.Option(help="The encoder that the expert belongs to.")]


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="Name of the expert; replaced if it exists.")],
    collection: Annotated[
        list[str], typer.Option(help="Whose judgments to learn from; repeat for several.")
    ],
    domain: Annotated[
        str | None,
        typer.Option(help="Only the judgments of this domain; default: all (a general expert)."),
    ] = None,
    rank: Annotated[int, typer.Option(help="Rank of the map.")] = 64,
    steps: Annotated[int, typer.Option(help="Training steps for one domain.")] = 900,
    seed: Annotated[int, typer.Option(help="Seed: equal seeds give equal experts.")] = 0,
    url: Url = None,
    json: Json = False,
) -> None:
    """Train a linear expert on judgments in the database; documents stay as they are.

    It serves only if nDCG@10 on the dev queries improves significantly over base; otherwise it is
    stored as rejected, and the exit status is 1.
    """
    from pgembed.descent import LinearSettings
    from pgembed.judgments import read_judged
    from pgembed.training import train_expert

    settings = LinearSettings(rank=rank, steps=steps, seed=seed)
    with connected(url) as connection:
        with progress_bar("Reading vectors and queries", quiet=json) as progress:
            judged = [read_judged(connection, each) for each in collection]
            progress.update(progress.task_ids[0], total=1, completed=1)
        with progress_bar("Training", quiet=json) as progress:
            task = progress.task_ids[0]
            trained = train_expert(
                connection,
                name,
                judged,
                domain=domain,
                settings=settings,
                on_step=lambda s: progress.update(task, completed=s.step, total=s.steps),
            )
    if json:
        print_json(trained.expert)
    else:
        console.print(f"Expert {name} is {trained.expert.state}: {trained.decision.reason}")
    if not trained.decision.accepted:
        raise typer.Exit(1)


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
    url: Url = None,
) -> None:
    """Show everything that is known of an expert, as json: settings, curve, gains, gate."""
    from pgembed.errors import NotFoundError
    from pgembed.experts import list_experts

    with connected(url) as connection:
        experts = {expert.name: expert for expert in list_experts(connection, encoder)}
    if name not in experts:
        raise NotFoundError(
            f"encoder {encoder!r} has no expert {name!r}",
            hint=f"Its experts are {', '.join(sorted(experts)) or 'none'}.",
        )
    print_json(experts[name])


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

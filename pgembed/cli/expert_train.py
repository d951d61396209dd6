"""The command ``expert train``: from judgments to an expert that serves, or is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from pgembed.cli.common import Json, Url, connected, console, errors, print_json, progress_bar

if TYPE_CHECKING:
    from rich.progress import Progress

    from pgembed.trained import TrainingStep


class Kind(StrEnum):
    """What an expert changes: the query's vector, or the encoder that makes it."""

    linear = "linear"
    lora = "lora"


class Negatives(StrEnum):
    """What a training query is compared with: a sample of the chunks, or all of them."""

    sampled = "sampled"
    corpus = "corpus"


class Origin(StrEnum):
    """Where judgments come from: the table of judgments, or the log of clicks."""

    judgments = "judgments"
    clicks = "clicks"


def train(  # noqa: PLR0913 - one option a choice of how to train
    name: Annotated[str, typer.Argument(help="Name of the expert; replaced if it exists.")],
    collection: Annotated[
        list[str], typer.Option(help="Whose judgments to learn from; repeat for several.")
    ],
    domain: Annotated[
        str | None,
        typer.Option(help="Only the judgments of this domain; default: all (a general expert)."),
    ] = None,
    kind: Annotated[
        Kind, typer.Option(help="A map of the query's vector, or LoRA (needs torch).")
    ] = Kind.linear,
    rank: Annotated[
        int | None, typer.Option(help="Rank of the map; default: 64, of LoRA 8.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Training steps for one domain; default: 900, of LoRA 600.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Highest learning rate; default: 0.002, of LoRA 0.0003.")
    ] = None,
    negatives: Annotated[
        Negatives | None,
        typer.Option(help="Train against a sample of the chunks (default), or against all."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed: equal seeds give equal experts.")] = 0,
    source: Annotated[
        Origin, typer.Option(help="Learn from judgments, or from the log of clicks.")
    ] = Origin.judgments,
    general: Annotated[
        list[str] | None,
        typer.Option(help="Collection whose dev queries must not lose; repeat for several."),
    ] = None,
    allow_loss: Annotated[
        float, typer.Option(min=0, help="Points of nDCG@10 that general queries may lose.")
    ] = 1.0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew where an unfinished training was left.")
    ] = False,
    url: Url = None,
    json: Json = False,
) -> None:
    """Train an expert on judgments in the database; documents stay as they are.

    It serves only if nDCG@10 on the dev queries improves significantly over base, and queries
    without a domain and those of --general lose no more than --allow-loss; otherwise it is stored
    as rejected, and the exit status is 1.

    A training that was stopped goes on when the same command is run again.

    Example: pgembed expert train claims --collection papers --domain claims
    """
    from pgembed.encoders.minilm import cache_folder
    from pgembed.errors import TrainingError
    from pgembed.judgments import read_judged
    from pgembed.recommending import describe_expert
    from pgembed.training import train_expert
    from pgembed.training_kinds import settings_of

    settings = settings_of(
        kind.value,
        rank=rank,
        steps=steps,
        learning_rate=learning_rate,
        negatives=negatives and negatives.value,
        seed=seed,
    )
    with connected(url) as connection:
        with progress_bar("Reading vectors and queries", quiet=json) as progress:
            judged = [read_judged(connection, each, source=source.value) for each in collection]
            guarded = [read_judged(connection, each) for each in general or ()]
            progress.update(progress.task_ids[0], total=1, completed=1)
        with progress_bar("Training", quiet=json) as progress, _resumable() as told:
            trained = train_expert(
                connection,
                name,
                judged,
                kind=kind.value,
                domain=domain,
                settings=settings,
                general=guarded,
                allowed_loss=allow_loss / 100,
                checkpoints=cache_folder() / "trainings",
                fresh=fresh,
                on_step=lambda step: told(progress, step),
            )
        # What recommends the expert to other collections; too little of it is no failure.
        with suppress(TrainingError):
            describe_expert(connection, trained.expert.encoder, name, judged, domain)
    if json:
        print_json(trained.expert)
    else:
        console.print(f"Expert {name} is {trained.expert.state}: {trained.decision.reason}")
    if not trained.decision.accepted:
        raise typer.Exit(1)


@contextmanager
def _resumable() -> Iterator[Callable[[Progress, TrainingStep], None]]:
    """Tells in the bar how training goes, and after Ctrl-C how it goes on."""
    reached = 0
    scored = ""

    def told(progress: Progress, step: TrainingStep) -> None:
        nonlocal reached, scored
        if not reached and step.step > 1:
            progress.console.print(f"Going on after step {step.step - 1}; --fresh starts over.")
        reached = step.step
        if step.dev_ndcg is not None:
            scored = f", nDCG@10 {step.dev_ndcg:.3f}"
        progress.update(
            progress.task_ids[0],
            completed=step.step,
            total=step.steps,
            description=f"Training: loss {step.loss:.3f}{scored}",
        )

    try:
        yield told
    except KeyboardInterrupt:
        if reached:
            errors.print(
                f"Training stopped at step {reached}. The same command goes on from the last look"
                " at nDCG@10; with --fresh it starts over."
            )
        raise

"""The command ``expert train``: from judgments to an expert that serves, or is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from pgembed.cli.common import Json, Url, connected, console, errors, print_json, progress_bar

if TYPE_CHECKING:
    from rich.progress import Progress

    from pgembed.database import Connection
    from pgembed.judgments import JudgedCollection
    from pgembed.trained import TrainingStep
    from pgembed.training import TrainedExpert


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
        float | None, typer.Option(help="Highest learning rate; default: 0.002, of LoRA 0.003.")
    ] = None,
    negatives: Annotated[
        Negatives | None,
        typer.Option(help="Train against a sample of the chunks (default), or against all."),
    ] = None,
    anchor: Annotated[
        float | None,
        typer.Option(help="How much random texts stay in place; default: 0.3, of LoRA 4."),
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
    from pgembed.judgments import read_judged
    from pgembed.training import train_expert
    from pgembed.training_kinds import settings_of

    settings = settings_of(
        kind.value,
        rank=rank,
        steps=steps,
        learning_rate=learning_rate,
        negatives=negatives and negatives.value,
        anchor=anchor,
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
        _describe(connection, trained, judged, domain)
    if json:
        print_json(trained.expert)
    else:
        console.print(f"Expert {name} is {trained.expert.state}: {trained.decision.reason}")
    if not trained.decision.accepted:
        raise typer.Exit(1)


def _describe(
    connection: Connection,
    trained: TrainedExpert,
    judged: Sequence[JudgedCollection],
    domain: str | None,
) -> None:
    """Store what recommends the expert to other collections, if its row is what was trained.

    The expert is registered by now: whatever fails here is told, and no more than that.
    """
    from pgembed.errors import TrainingError
    from pgembed.experts import list_experts
    from pgembed.recommending import describe_expert

    name, encoder = trained.expert.name, trained.expert.encoder
    try:
        # A rejected retraining leaves the active expert, and what that one was trained on, alone.
        stored = {each.name: each.state for each in list_experts(connection, encoder)}
        if stored.get(name) == trained.expert.state:
            with connection.transaction():
                describe_expert(connection, encoder, name, judged, domain)
    except TrainingError:
        pass  # Too few vectors to describe it by are no failure.
    except Exception as error:
        errors.print(
            f"Expert {name} is stored, but not what it was trained on"
            f" ({type(error).__name__}: {error}). Try again: pgembed expert describe {name}"
            f" {' '.join(f'--collection {each.name}' for each in judged)}"
        )


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

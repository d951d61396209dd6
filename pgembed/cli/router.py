"""The router: build, add, show."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgembed.cli.common import Json, Url, connected, console, print_json, progress_bar
from pgembed.cli.router_tables import print_router
from pgembed.errors import InputError

if TYPE_CHECKING:
    from pgembed.router_record import RouterRecord

app = typer.Typer(no_args_is_help=True, help="What chooses the experts of a query.")


class Kind(StrEnum):
    """Kinds of routers."""

    pilot = "pilot"
    lda = "lda"
    logistic = "logistic"
    knn = "knn"
    utility = "utility"
    fixed = "fixed"
    uniform = "uniform"


class Aggregate(StrEnum):
    """What counts of the similarities to an expert's pilots."""

    mean = "mean"
    max = "max"


class Posterior(StrEnum):
    """How domains are told apart."""

    lda = "lda"
    logistic = "logistic"
    knn = "knn"


@app.command()
def build(  # noqa: PLR0913 each option is a parameter
    collection: Annotated[
        list[str], typer.Option(help="Whose judged queries to build on; repeat for several.")
    ],
    kind: Annotated[
        Kind,
        typer.Option(
            help="pilot: experts by similar training queries, as in the paper; lda, logistic, knn:"
            " domains, each with its best expert; utility: domains, each with a mixture of experts;"
            " fixed, uniform: the same for all queries."
        ),
    ] = Kind.pilot,
    labels: Annotated[
        str,
        typer.Option(
            help="Of pilots. instance: each training query votes for its best expert, as in the"
            " paper; domain: a domain's queries go to the expert that is best on it."
        ),
    ] = "instance",
    pilots: Annotated[
        int, typer.Option(min=1, help="Pilots of each expert and domain; several by k-means.")
    ] = 1,
    aggregate: Annotated[
        Aggregate, typer.Option(help="Of an expert's pilots: mean similarity, or the greatest.")
    ] = Aggregate.mean,
    posterior: Annotated[
        Posterior, typer.Option(help="How kind utility tells domains apart.")
    ] = Posterior.logistic,
    neighbours: Annotated[
        int,
        typer.Option(min=1, help="Clusters of queries that vote where neighbours tell."),
    ] = 10,
    weight: Annotated[
        list[str] | None,
        typer.Option(metavar="EXPERT=WEIGHT", help="Of kind fixed; repeat for several."),
    ] = None,
    fallback: Annotated[
        bool, typer.Option(help="Let base answer queries that are unlike all judged ones.")
    ] = False,
    url: Url = None,
    json: Json = False,
) -> None:
    """Build a router from training queries, fit soft routing on dev, and install both.

    What was installed before is replaced, and stays if the new router is not significantly better
    than base on the dev queries; the exit status is then 1. These queries also chose the
    parameters, so the gain is somewhat optimistic: pgembed evaluate --split test tells what it is.

    Example: pgembed router build --collection papers --kind utility --fallback

    Example: pgembed router build --collection papers --kind fixed --weight base=0.3 --weight
    general=0.7
    """
    from pgembed.router_building import build_router
    from pgembed.router_fitting import STEPS
    from pgembed.router_record import router_record
    from pgembed.router_settings import RouterSettings

    if labels not in ("instance", "domain"):
        raise InputError(f"--labels is instance or domain, not {labels!r}")
    settings = RouterSettings(
        kind=kind.value,
        labels="domain" if labels == "domain" else "instance",
        pilots=pilots,
        aggregate=aggregate.value,
        posterior=posterior.value,
        neighbours=neighbours,
        weights=dict(_weight(each) for each in weight or ()),
        fallback=fallback,
    )
    with connected(url) as connection:
        judged = _read(connection, collection, quiet=json)
        with progress_bar(STEPS[0], quiet=json) as progress:
            task = progress.task_ids[0]

            def on_step(step: str) -> None:
                done = STEPS.index(step)
                progress.update(task, description=step, completed=done, total=len(STEPS))

            build_router(connection, judged, settings=settings, on_step=on_step)
            progress.update(task, completed=len(STEPS))
        record = router_record(connection, judged[0].encoder)
    assert record is not None
    _print(record, json)


@app.command()
def add(
    expert: Annotated[str, typer.Argument(help="An active expert of one domain.")],
    collection: Annotated[
        list[str], typer.Option(help="That have judged queries of its domain; repeat for several.")
    ],
    url: Url = None,
    json: Json = False,
) -> None:
    """Give a new expert its place in the router; what the router has of other domains stays.

    For kinds pilot, knn, and utility with --posterior knn. The others are built again. An expert
    is taken out by retiring it: pgembed expert retire NAME.

    Example: pgembed router add contracts --collection papers
    """
    from pgembed.router_building import add_to_router
    from pgembed.router_record import router_record

    with connected(url) as connection:
        judged = _read(connection, collection, quiet=json)
        with progress_bar("Scoring the experts", quiet=json) as progress:
            domains = add_to_router(connection, judged, expert)
            progress.update(progress.task_ids[0], total=1, completed=1)
        record = router_record(connection, judged[0].encoder)
    assert record is not None
    if not json:
        console.print(f"Expert {expert} is in the router, with domain {', '.join(domains)}")
    _print(record, json)


@app.command()
def show(
    encoder: Annotated[str, typer.Option(help="The encoder whose router to show.")] = "minilm",
    url: Url = None,
    json: Json = False,
) -> None:
    """Show an encoder's router: what it knows, its parameters, and how it did on dev.

    Example: pgembed router show --encoder minilm
    """
    from pgembed.router_record import router_record

    with connected(url) as connection:
        record = router_record(connection, encoder)
    if record is not None:
        _print(record, json)
    elif json:
        print_json(None)
    else:
        console.print(f"Encoder {encoder} has no router yet, so base answers every query.")


def _read(connection: Any, collections: Sequence[str], *, quiet: bool) -> list[Any]:
    from pgembed.judgments import read_judged

    with progress_bar("Reading vectors and queries", quiet=quiet) as progress:
        judged = []
        for name in collections:
            judged.append(read_judged(connection, name))
            progress.update(progress.task_ids[0], total=len(collections), completed=len(judged))
    return judged


def _weight(given: str) -> tuple[str, float]:
    name, _, number = given.rpartition("=")
    try:
        weight = float(number)
    except ValueError:
        weight = -1.0
    if not name or not weight >= 0:
        raise InputError(
            f"--weight is an expert and a number from 0, not {given!r}",
            hint="For example --weight base=0.3 --weight general=0.7",
        )
    return name, weight


def _print(record: RouterRecord, json: bool) -> None:
    if json:
        print_json(record)
    else:
        print_router(record)

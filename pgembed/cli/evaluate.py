"""The command ``evaluate``, and the table of systems that the demo prints too."""

from __future__ import annotations

from collections.abc import Sequence
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
    printable,
    progress_bar,
)
from pgembed.errors import InputError
from pgembed.evaluation import Evaluation, SystemScores
from pgembed.evaluation_figures import LABELS, NAMES, figures, remarks
from pgembed.measuring import METRICS, PRIMARY, check_metric
from pgembed.system_scores import Gain, gains_over_first

WIDE = 6
"""Domains up to which each has a column; above, each has a row."""


def evaluate(
    collections: Annotated[list[str], typer.Argument(help="Collections of one encoder.")],
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "test",
    mode: Annotated[
        list[str] | None,
        typer.Option(
            help="soft, hard or an expert; repeat for several."
            " Default: all of them, and the oracles."
        ),
    ] = None,
    metric: Annotated[str, typer.Option(help=f"What is compared: {', '.join(METRICS)}.")] = PRIMARY,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with plots into this file, too.")
    ] = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """Measure search on judged queries, through the SQL that answers users.

    Each way to search is compared with base, by a paired bootstrap over the queries of each domain;
    a * marks gains whose p, corrected for the number of comparisons (Holm), is below .05.
    Train and fit on train and dev, and look at test once: figures that were chosen by test are too
    good.

    Example: pgembed evaluate papers --split test --html papers.html
    """
    from pgembed.evaluation import evaluate_all
    from pgembed.judgments import SPLITS, one_encoder, read_judged
    from pgembed.routing import load_router

    if split not in SPLITS:
        raise InputError(f"there is no split {split!r}", hint=f"Splits are {', '.join(SPLITS)}.")
    check_metric(metric)
    if html is not None:
        from pgembed.evaluation_page import check_libraries

        check_libraries()
        if not html.absolute().parent.is_dir():
            raise InputError(f"cannot write {str(html)!r}: there is no such folder")
    with connected(url) as connection, progress_bar("Encode", quiet=json) as bar:
        task = bar.task_ids[0]
        judged = [read_judged(connection, name) for name in collections]
        router = load_router(connection, one_encoder(judged))
        evaluation = evaluate_all(
            connection,
            judged,
            router,
            mode,
            split=split,
            metric=metric,
            on_progress=lambda label, done, total: bar.update(
                task, description=printable(label), completed=done, total=total
            ),
        )
    if html is not None:
        from pgembed.evaluation_page import evaluation_page

        page = evaluation_page(evaluation, judged, router, metric=metric)
        try:
            html.write_text(page, encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {str(html)!r}: {error.strerror}") from error
    if json:
        print_json(figures(evaluation, metric))
        return
    print_systems(evaluation.systems, split, metric)
    _print_oracles(evaluation, metric)
    if html is not None:
        console.print(f"The page is {html}.", highlight=False)


def print_systems(systems: Sequence[SystemScores], split: str, metric: str = PRIMARY) -> None:
    """Print a metric of each system by domain, and its gain over the first one."""
    gains = gains_over_first(systems, metric)
    base = systems[0].scores(metric)
    title = f"{LABELS[metric]} on {split}"
    gain = "gain over base [95 % interval]"
    if len(base) <= WIDE:
        print_table(
            [title, *map(printable, base), "macro", gain],
            [
                (
                    _name(system),
                    *[float(scores.mean()) for scores in system.scores(metric).values()],
                    system.macro_of(metric),
                    _gain(gains.get(system.name)),
                )
                for system in systems
            ],
        )
    else:
        print_table(
            [title, *[printable(_name(system)) for system in systems]],
            [
                (domain, *[float(system.scores(metric)[domain].mean()) for system in systems])
                for domain in base
            ],
        )
        print_table(
            [title, "macro", "micro", gain],
            [
                (
                    _name(system),
                    system.macro_of(metric),
                    system.micro_of(metric),
                    _gain(gains.get(system.name)),
                )
                for system in systems
            ],
        )
    queries = ", ".join(f"{printable(domain)} {len(scores)}" for domain, scores in base.items())
    console.print(
        f"Queries: {queries}. Intervals: paired bootstrap; *: p below .05 after Holm's correction"
        f" for {len(gains)} comparisons.",
        highlight=False,
    )


def _print_oracles(evaluation: Evaluation, metric: str) -> None:
    """Print what knowing the best arm would give, and how far the systems are from it."""
    shown = [evaluation.dataset_oracle, evaluation.instance_oracle]
    oracles = [each for each in (*shown, *evaluation.seed_oracles.values()) if each is not None]
    if oracles:
        print_table(
            ["oracle", "macro", "micro"],
            [(each.name, each.macro_of(metric), each.micro_of(metric)) for each in oracles],
        )
    for line in remarks(evaluation, metric):
        console.print(printable(line), highlight=False)


def _name(system: SystemScores) -> str:
    return NAMES.get(system.name, f"expert {system.name}")


def _gain(gain: Gain | None) -> str:
    if gain is None:
        return ""
    interval = gain.interval
    mark = " *" if gain.significant else ""
    return f"{interval.mean:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]{mark}"

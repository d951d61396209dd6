"""The command ``evaluate``, and the table of systems that the demo prints too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from pgembed.cli.common import Json, Url, connected, console, print_json, print_table, progress_bar
from pgembed.errors import InputError
from pgembed.evaluation import SystemScores

NAMES = {"hard": "routed (hard)", "soft": "routed (soft)", "base": "base"}
"""What the modes are called; an expert's name is its mode."""


def evaluate(
    collections: Annotated[list[str], typer.Argument(help="Collections of one encoder.")],
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "test",
    mode: Annotated[
        list[str] | None,
        typer.Option(help="soft, hard or an expert; repeat for several. Default: all of them."),
    ] = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """Measure nDCG@10 on judged queries, through the SQL that answers users.

    Each way to search is compared with base, by a paired bootstrap over the queries of each domain.
    Train and fit on train and dev, and look at test once: figures that were chosen by test are too
    good.

    Example: pgembed evaluate papers --split test
    """
    from pgembed.evaluation import evaluate as run
    from pgembed.judgments import SPLITS, one_encoder, read_judged
    from pgembed.routing import load_router

    if split not in SPLITS:
        raise InputError(f"there is no split {split!r}", hint=f"Splits are {', '.join(SPLITS)}.")
    with connected(url) as connection, progress_bar("Encode", quiet=json) as bar:
        task = bar.task_ids[0]
        judged = [read_judged(connection, name) for name in collections]
        router = load_router(connection, one_encoder(judged))
        modes = ["base", *(mode or [*sorted(router.experts), "hard", "soft"])]
        total = sum(len(each.split(domain, split)) for each in judged for domain in each.domains)
        systems = []
        for each in dict.fromkeys(modes):
            bar.reset(task, description=each, total=total)
            systems.append(
                run(
                    connection,
                    judged,
                    router,
                    each,
                    split=split,
                    on_progress=lambda done: bar.advance(task, done),
                )
            )
    if json:
        print_json({"split": split, "systems": [_plain(each, systems[0]) for each in systems]})
    else:
        print_systems(systems, split)


def print_systems(systems: Sequence[SystemScores], split: str) -> None:
    """Print nDCG@10 of each system by domain, and its gain over the first one."""
    base = systems[0]
    domains = list(base.by_domain)
    print_table(
        [f"nDCG@10 on {split}", *domains, "macro", "gain over base [95 % interval]"],
        [
            (
                NAMES.get(system.name, f"expert {system.name}"),
                *[float(system.by_domain[domain].mean()) for domain in domains],
                system.macro,
                _gain(system, base),
            )
            for system in systems
        ],
    )
    queries = ", ".join(f"{domain} {len(base.by_domain[domain])}" for domain in domains)
    console.print(f"Queries: {queries}. Intervals: paired bootstrap.", highlight=False)


def _gain(system: SystemScores, base: SystemScores) -> str:
    if system is base:
        return ""
    gain = system.gain_over(base)
    return f"{gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"


def _plain(system: SystemScores, base: SystemScores) -> dict[str, Any]:
    gain = None if system is base else system.gain_over(base)
    return {
        "mode": system.name,
        "macro": system.macro,
        "domains": {name: float(scores.mean()) for name, scores in system.by_domain.items()},
        "queries": {name: len(scores) for name, scores in system.by_domain.items()},
        "gain_over_base": gain and {"mean": gain.mean, "low": gain.low, "high": gain.high},
    }

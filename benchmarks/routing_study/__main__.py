"""Does routing over experts pay, and does it pay more than the paper's way?

``python -m benchmarks.routing_study --quick`` takes three domains and some minutes; without
``--quick`` all sets and seeds. Trained experts and embedded documents are kept in files: a run
that was stopped goes on with the next expert. Results go to
benchmarks/results/routing_study*.{json,md} and plots. ``--lora`` adds LoRA experts to them, whose
training takes 75 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.data import RESULTS, require_shared, server
from benchmarks.routing_study.ablations import ablations
from benchmarks.routing_study.cards import write_cards
from benchmarks.routing_study.confirming import confirmed
from benchmarks.routing_study.experts import Workshop
from benchmarks.routing_study.installing import install_and_evaluate
from benchmarks.routing_study.latency import QUERIES, measure_latency, measure_routed
from benchmarks.routing_study.lexical import Bm25, lexical_block
from benchmarks.routing_study.lora import both_kinds, train_lora_expert
from benchmarks.routing_study.measuring import (
    Measured,
    Scores,
    measure_all,
    seed_oracle,
    split_judgment_oracle,
    subset_oracle,
    systems_of,
)
from benchmarks.routing_study.recipes import recipes
from benchmarks.routing_study.report import plots, report
from benchmarks.routing_study.sets import (
    COLLECTION,
    FULL,
    QUICK,
    TAINTED,
    Size,
    open_study,
    read_study,
    settings_of,
)
from benchmarks.routing_study.systems import World, pooled, utility_system
from benchmarks.routing_study.verdicts import (
    BASE,
    OURS,
    PAPER,
    Figures,
    beside,
    cost_verdicts,
    registered,
    verdicts,
)
from pgembed.arm_router import mix
from pgembed.database import Connection
from pgembed.judgments import JudgedCollection
from pgembed.training_data import anchor_texts

console = Console()

ORACLE_SEEDS = 3
"""Multi-task experts of different seeds: what the best of several gives by chance."""


Installed = Callable[[Connection], dict[str, Any]]
"""Puts the study's router into the database, and measures it there."""


def run(judged: JudgedCollection, size: Size) -> tuple[dict[str, Any], Installed]:
    """The study in numpy, and what remains to do in the database."""
    started = time.perf_counter()
    merged, per_domain = settings_of(judged, size)
    workshop = Workshop.of(judged, size.domains)
    measured: dict[str, list[Measured]] = {"merged": [], "per_domain": []}
    worlds = []
    for seed in range(size.seeds):
        world = World.of(workshop, size, merged, seed)
        systems = systems_of(world)
        worlds.append((world, systems))
        for setting in (merged, per_domain):
            measured[setting.name].append(measure_all(workshop, world, systems, size, setting))
        console.print(f"{time.perf_counter() - started:6.0f} s  seed {seed} is measured")
    figures = Figures(size, *(_averaged(measured[name]) for name in ("merged", "per_domain")))
    world, systems = worlds[0]
    tests = {
        name: pooled(judged.split(name, "test"), name, merged, world.arms) for name in size.sets
    }
    latency = measure_latency(world, systems[OURS], _sample(judged, size))
    found_ablations = ablations(world, tests, systems[OURS])
    latency["add_seconds"] = found_ablations["add"]["lda_and_shares_seconds"]
    seeds = range(ORACLE_SEEDS)
    by_chance = seed_oracle(workshop, size, merged, seeds)
    result: dict[str, Any] = {
        "about": _about(judged, size),
        "verdicts": verdicts(figures, latency),
        "registered": registered(figures),
        "beside": beside(figures),
        "macro": {part: _macros(figures, part) for part in ("merged", "per_domain")},
        "sets": {part: _by_set(figures, part) for part in ("merged", "per_domain")},
        "metrics": {part: _metrics(measured[part], size) for part in ("merged", "per_domain")},
        "seeds": {part: [_seed(m, size) for m in measured[part]] for part in measured},
        "oracles": _oracles(figures, by_chance, subset_oracle(tests, size, len(seeds)), len(seeds))
        | {"split_judgments": split_judgment_oracle(workshop, world, merged)},
        "latency": latency,
        "ablations": found_ablations,
        "unseen": confirmed(workshop, size, merged, worlds),
    }
    result["with_bm25"] = _with_bm25(judged, size, world, systems)
    result["about"]["seconds"] = round(time.perf_counter() - started)
    scores, modes = measured["merged"][0].scores, {"base": BASE, "soft": OURS}
    return result, lambda c: install_and_evaluate(c, judged, world, systems[OURS], scores, modes)


def add_lora(
    connection: Connection, judged: JudgedCollection, size: Size, *, through_sql: bool
) -> None:
    """The last result, with arms of both kinds measured beside it."""
    result: dict[str, Any] = json.loads(_file(size).read_text())
    merged, _ = settings_of(judged, size)
    workshop = Workshop.of(judged, size.domains, anchor_texts(connection, COLLECTION))
    both = both_kinds(workshop, size, merged, World.of(workshop, size, merged, 0))
    ours = both.systems[OURS]
    result["lora"] = both.result | {
        "latency": measure_routed(both.world, ours, _sample(judged, size))
    }
    _write(result, size)
    if through_sql:
        found = install_and_evaluate(
            connection, judged, both.world, ours, both.scores, {"soft": OURS}
        )
        result["lora"]["through_sql"] = found
        _write(result, size)


def again_latency(judged: JudgedCollection, size: Size) -> None:
    """The last result, with latency measured anew, by the router of the first seed."""
    result: dict[str, Any] = json.loads(_file(size).read_text())
    merged, _ = settings_of(judged, size)
    world = World.of(Workshop.of(judged, size.domains), size, merged, 0)
    ours = utility_system(world, fallback=True)
    found = measure_latency(world, ours, _sample(judged, size))
    result["latency"] = found | {"add_seconds": result["latency"]["add_seconds"]}
    result["verdicts"] |= cost_verdicts(result["latency"])
    _write(result, size)


def _sample(judged: JudgedCollection, size: Size) -> list[str]:
    """Queries to measure latency with."""
    each = QUERIES // len(size.domains)
    samples = (judged.split(name, "test").sample(each).texts for name in size.domains)
    return [text for sample in samples for text in sample]


def _averaged(seeds: Sequence[Measured]) -> dict[str, Scores]:
    """Scores of each query, averaged over seeds."""
    return {
        system: {
            name: np.mean([each.scores[system][name] for each in seeds], axis=0)
            for name in seeds[0].scores[system]
        }
        for system in seeds[0].scores
    }


def _about(judged: JudgedCollection, size: Size) -> dict[str, Any]:
    count = {name: len(judged.split(name, "test")) for name in size.sets}
    return {
        "size": size.name,
        "documents": len(judged.keys),
        "chunks": len(judged.corpus.vectors),
        "domains": list(size.domains),
        "without_expert": list(size.without_expert),
        "tainted": [name for name in size.sets if name in TAINTED],
        "test_queries": count,
        "test_queries_in_domains": sum(count[name] for name in size.domains),
        "seeds": size.seeds,
    }


def _macros(figures: Figures, part: str) -> dict[str, dict[str, float]]:
    away, clean = figures.size.without_expert, [d for d in figures.size.domains if d not in TAINTED]
    return {
        system: {
            "domains": round(figures.macro(system, part=part), 2),
            "clean_domains": round(figures.macro(system, clean, part=part), 2),
            "without_expert": round(figures.macro(system, away, part=part), 2),
        }
        for system in getattr(figures, part)
    }


def _by_set(figures: Figures, part: str) -> dict[str, dict[str, float]]:
    return {
        system: {name: round(100 * float(values.mean()), 2) for name, values in scores.items()}
        for system, scores in getattr(figures, part).items()
    }


def _metrics(seeds: Sequence[Measured], size: Size) -> dict[str, dict[str, float]]:
    """Macro over domains, averaged over seeds."""
    return {
        system: {
            metric: round(
                100
                * float(
                    np.mean(
                        [[m.metrics[system][metric][n].mean() for n in size.domains] for m in seeds]
                    )
                ),
                2,
            )
            for metric in metrics
        }
        for system, metrics in seeds[0].metrics.items()
    }


def _seed(measured: Measured, size: Size) -> dict[str, Any]:
    return {
        "macro": {
            system: round(100 * float(np.mean([scores[n].mean() for n in size.domains])), 3)
            for system, scores in measured.scores.items()
        },
        "sets": {
            system: {n: round(100 * float(v.mean()), 3) for n, v in scores.items()}
            for system, scores in measured.scores.items()
        },
        "parameters": dict(measured.about),
        "dataset_oracle": dict(measured.oracle),
        "own_expert_share": {
            system: {n: round(v, 3) for n, v in shares.items()}
            for system, shares in measured.accuracy.items()
        },
        "heaviest": {
            n: {a: round(v, 3) for a, v in shares.items()}
            for n, shares in measured.heaviest.items()
        },
    }


def _oracles(
    figures: Figures, by_chance: Mapping[str, Any], subsets: float, count: int
) -> dict[str, Any]:
    base, ours, paper = (figures.macro(system) for system in ("S1 base", OURS, PAPER))
    chance = 100 * float(np.mean([by_chance[name].mean() for name in figures.size.domains]))
    known = figures.macro("S5 DatasetOracle")
    return {
        "dataset_oracle": round(known, 2),
        "instance_oracle": round(figures.macro("S6 InstanceOracle"), 2),
        f"instance_oracle_of_{count}_arms": round(subsets, 2),
        f"oracle_of_{count}_seeds_of_multi_task": round(chance, 2),
        "regret": {"ours": round(known - ours, 2), "paper": round(known - paper, 2)},
        "recovery_dataset": {
            "ours": round((ours - base) / (known - base), 3),
            "paper": round((paper - base) / (known - base), 3),
        },
    }


def _with_bm25(
    judged: JudgedCollection, size: Size, world: World, systems: Mapping[str, Any]
) -> dict[str, Any]:
    chosen = {name: systems[name] for name in ("S1 base", "S2 multi-task", PAPER, OURS)}

    def vectors_of(system: Any, queries: Any) -> Any:
        weights = system.router.weights(queries.vectors, system.mode)
        return mix(queries.vectors, weights, world.arms.vectors(queries))

    return lexical_block(judged, size, chosen, vectors_of, Bm25(judged, size))


def main() -> None:
    """Run the study, or a part of it, and write what came out."""
    options = _parser().parse_args()
    require_shared()
    size = QUICK if options.quick else FULL
    with server() as running:
        connection = open_study(running.url, size, fresh=options.fresh)
        judged = read_study(connection)
        console.print(f"{len(judged.keys)} documents, {len(judged.corpus.vectors)} chunks")
        if options.train_only is not None or options.train_lora:
            _train(connection, judged, size, options)
            return
        if options.latency:
            again_latency(judged, size)
        elif options.lora:
            add_lora(connection, judged, size, through_sql=not options.no_sql)
        else:
            _everything(connection, judged, size, options)
        connection.close()
    console.print(report(json.loads(_file(size).read_text())), markup=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three domains, one seed")
    parser.add_argument("--fresh", action="store_true", help="load the database anew")
    parser.add_argument("--no-sql", action="store_true", help="do not evaluate through SQL")
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--recipes", action="store_true", help="train otherwise, too")
    parts.add_argument("--lora", action="store_true", help="add LoRA experts to the last result")
    parts.add_argument("--latency", action="store_true", help="measure the last result's anew")
    parts.add_argument(
        "--train-only", type=int, metavar="SEED", help="train the linear experts of a seed"
    )
    parts.add_argument(
        "--train-lora", nargs="+", metavar="NAME", help="train LoRA experts: domains, or general"
    )
    return parser


def _everything(
    connection: Connection, judged: JudgedCollection, size: Size, options: argparse.Namespace
) -> None:
    result, installed = run(judged, size)
    _write(result, size)
    if not options.no_sql:
        result["through_sql"] = installed(connection)
        if size is FULL:
            counts = {name: len(judged.split(name, "train")) for name in size.domains}
            write_cards(connection, result, counts)
        _write(result, size)
    if options.recipes:
        result["recipes"] = recipes(Workshop.of(judged, size.domains), size)
        _write(result, size)


def _write(result: dict[str, Any], size: Size) -> None:
    file = _file(size)
    RESULTS.mkdir(exist_ok=True)
    page = report(result)
    file.write_text(json.dumps(result, indent=1, default=float) + "\n")
    file.with_suffix(".md").write_text(page)
    plots(result, file.stem)


def _file(size: Size) -> Path:
    return RESULTS / ("routing_study.json" if size is FULL else "routing_study_quick.json")


def _train(
    connection: Connection, judged: JudgedCollection, size: Size, options: argparse.Namespace
) -> None:
    """LoRA experts, or all linear experts of one seed, for a process of its own."""
    workshop = Workshop.of(judged, size.domains, anchor_texts(connection, COLLECTION))
    seed = options.train_only
    for name in options.train_lora or ():
        train_lora_expert(workshop, name)
    if seed is None:
        return
    for name in size.domains:
        workshop.expert(name, seed)
    workshop.general(seed)
    if seed == 0:
        for name in size.domains:
            for fold in (0, 1):
                workshop.fold(name, 0, fold)
        workshop.general(0, wide=True)


if __name__ == "__main__":
    main()

"""Routing on real judged sets: eight domains in one collection, an expert each, one router.

Run ``python -m benchmarks.routing``: it loads, embeds, trains, routes and evaluates, and writes
results/routing.json, routing.md and routing.png. The database is kept, so that a second run does
not embed again; ``--fresh`` drops it first.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pgembed.pilot_router import BASE, PilotRouter
from rich.console import Console
from rich.progress import Progress

from benchmarks.data import (
    RESULTS,
    Document,
    open_database,
    read_set,
    require_shared,
    sampled,
    server,
)
from pgembed.bootstrap import paired_bootstrap
from pgembed.collections import create_collection
from pgembed.database import Connection
from pgembed.judgments import JudgedCollection, add_judgments, read_judged
from pgembed.metrics import Corpus, ndcg_of
from pgembed.router_building import build_router
from pgembed.routing import Router, load_router
from pgembed.soft_fitting import GENERAL
from pgembed.syncing import sync
from pgembed.training import train_expert

SETS = (
    "scifact",
    "nl2bash",
    "cuad_clauses",
    "fin10k",
    "debatepedia",
    "clef_claims",
    "nfcorpus_pre",
    "conala",
)
TAINTED = ("scifact",)
"""Sets whose documents the base model saw in training."""

TRAIN, DEV, TEST = 4000, 300, 500
COLLECTION = "judged_sets"
DATABASE = "pgembed_benchmark_routing"

console = Console()


def load(connection: Connection) -> None:
    """Put all sets into one table and one collection, with judgments, and embed what is new."""
    connection.execute(
        "create table if not exists documents"
        " (set text, id text, title text not null, body text not null, primary key (set, id))"
    )
    if connection.execute("select from pgembed.collection").fetchone() is None:
        with connection.transaction():
            for name in SETS:
                _copy(connection, name, read_set(name).documents)
            create_collection(
                connection,
                COLLECTION,
                source="documents",
                content=["title", "body"],
                encoder="minilm",
            )
            for name in SETS:
                key = f'["{name}", {{}}]'
                judgments = sampled(read_set(name), key, train=TRAIN, dev=DEV, test=TEST)
                add_judgments(connection, COLLECTION, judgments)
    with Progress(console=console) as progress:
        task = progress.add_task("Embedding", total=None)
        sync(
            connection,
            COLLECTION,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )


def _copy(connection: Connection, name: str, documents: Sequence[Document]) -> None:
    with (
        connection.cursor() as cursor,
        cursor.copy("copy documents (set, id, title, body) from stdin") as copy,
    ):
        for document in documents:
            copy.write_row((name, document.id, document.title, document.body))


def train(connection: Connection, judged: JudgedCollection) -> None:
    """An expert for each domain and one for all, each through the gate."""
    for name in (*SETS, GENERAL):
        started = time.perf_counter()
        trained = train_expert(connection, name, [judged], domain=None if name == GENERAL else name)
        seconds = time.perf_counter() - started
        console.print(
            f"{seconds:6.1f} s  {name}: {trained.expert.state}, {trained.decision.reason}"
        )


@dataclass(frozen=True, slots=True)
class Setting:
    """The corpora that queries are answered from: all documents, or each domain's own."""

    name: str
    corpora: Mapping[str, tuple[Corpus, Mapping[int, int]]]
    """For each domain its corpus, and the number that each merged document has in it."""


def settings(judged: JudgedCollection) -> tuple[Setting, Setting]:
    """Merged, and per domain: the same chunks and vectors in both."""
    owners = np.asarray([json.loads(key)[0] for key in judged.keys])
    everything = {number: number for number in range(len(judged.keys))}
    return (
        Setting("merged", dict.fromkeys(SETS, (judged.corpus, everything))),
        Setting("per_domain", {name: _part(judged, owners == name) for name in SETS}),
    )


def _part(judged: JudgedCollection, mine: NDArray[np.bool_]) -> tuple[Corpus, dict[int, int]]:
    rows = mine[judged.corpus.documents]
    numbers = {int(document): number for number, document in enumerate(np.flatnonzero(mine))}
    documents = np.asarray([numbers[int(d)] for d in judged.corpus.documents[rows]])
    return Corpus(judged.corpus.vectors[rows], documents), numbers


Scores = dict[str, NDArray[np.float64]]
"""nDCG@10 of each query, by domain."""


def scores(
    judged: JudgedCollection, router: Router, mode: str, setting: Setting, split: str
) -> Scores:
    """Every query of a split under one mode, ranked exactly."""
    found = {}
    for name in SETS:
        queries = judged.split(name, split)
        corpus, numbers = setting.corpora[name]
        relevant = [
            {numbers[document]: grade for document, grade in each.items() if document in numbers}
            for each in queries.relevant
        ]
        found[name] = ndcg_of(router.query_vectors(queries.vectors, mode), corpus, relevant)
    return found


def macro(found: Scores) -> float:
    return float(np.mean([values.mean() for values in found.values()]))


def gain(better: Scores, other: Scores) -> dict[str, float]:
    """Macro gain in points with a 95 % paired bootstrap interval, stratified by domain."""
    strata = np.repeat(np.arange(len(SETS)), [len(better[name]) for name in SETS])
    interval = paired_bootstrap(
        np.concatenate([other[name] for name in SETS]),
        np.concatenate([better[name] for name in SETS]),
        strata=strata,
    )
    return {key: round(100 * getattr(interval, key), 2) for key in ("mean", "low", "high")}


def measure(
    connection: Connection, judged: JudgedCollection, setting: Setting
) -> dict[str, object]:
    """All systems in one setting; whatever is chosen is chosen on dev of the merged corpus."""
    router = load_router(connection, "minilm")
    arms = (BASE, *sorted(router.experts))
    merged, _ = settings(judged)
    dev = {arm: scores(judged, router, arm, merged, "dev") for arm in arms}
    test = {arm: scores(judged, router, arm, setting, "test") for arm in arms}
    best_single = max((a for a in arms if a not in (BASE, GENERAL)), key=lambda a: macro(dev[a]))
    oracle = {name: max(arms, key=lambda arm, n=name: float(dev[arm][n].mean())) for name in SETS}
    systems: dict[str, Scores] = {
        "base": test[BASE],
        "multitask": test.get(GENERAL, test[BASE]),
        "best_single": test[best_single],
        "pilot": scores(judged, router, "hard", setting, "test"),
        "soft": scores(judged, router, "soft", setting, "test"),
        "oracle": {name: test[oracle[name]][name] for name in SETS},
    }
    return {
        "macro": {name: round(100 * macro(found), 2) for name, found in systems.items()},
        "sets": {
            name: {
                "queries": len(judged.split(name, "test")),
                "tainted": name in TAINTED,
                **{system: round(100 * float(f[name].mean()), 2) for system, f in systems.items()},
            }
            for name in SETS
        },
        "experts": {
            arm: {name: round(100 * float(test[arm][name].mean()), 2) for name in SETS}
            for arm in arms
        },
        "best_single_expert": best_single,
        "oracle_arms": oracle,
        "gains": {
            f"{a} - {b}": gain(systems[a], systems[b])
            for a, b in (
                ("pilot", "base"),
                ("pilot", "multitask"),
                ("pilot", "best_single"),
                ("soft", "base"),
                ("soft", "multitask"),
                ("soft", "pilot"),
                ("soft", "oracle"),
            )
        },
        "own_expert_share": routed_home(judged, router, oracle),
    }


def routed_home(
    judged: JudgedCollection, router: Router, oracle: Mapping[str, str]
) -> dict[str, float]:
    """Share of a domain's test queries that hard routing sends to the oracle's arm."""
    pilots: PilotRouter = router.pilots
    shares = {}
    for name in SETS:
        arms, weights = pilots.weights(judged.split(name, "test").vectors, "hard")
        chosen = np.asarray(arms)[weights.argmax(axis=1)]
        shares[name] = round(float((chosen == oracle[name]).mean()), 3)
    return shares


def pilots_compared(connection: Connection, judged: JudgedCollection) -> dict[str, object]:
    """Both ways to label the pilots' queries, on dev and test of the merged corpus."""
    merged, _ = settings(judged)
    found: dict[str, object] = {}
    for labels in ("domain", "instance"):
        built = build_router(connection, [judged], labels=labels)
        router = load_router(connection, "minilm")
        found[labels] = {
            "pilots": len(built.pilots),
            "temperature": built.fit.parameters.temperature,
            "standing": dict(built.fit.parameters.standing),
            **{
                f"{mode}_{split}": round(
                    100 * macro(scores(judged, router, mode, merged, split)), 2
                )
                for mode in ("hard", "soft")
                for split in ("dev", "test")
            },
        }
    return found


def report(result: dict[str, dict[str, object]]) -> str:
    """The result as a Markdown page."""
    systems = ("base", "multitask", "best_single", "pilot", "soft", "oracle")
    lines = ["# Routing on eight judged sets", "", __doc__.split("\n")[0], ""]
    for setting in ("merged", "per_domain"):
        part = result[setting]
        lines += [f"## nDCG@10 on test, {setting.replace('_', ' ')} corpus", ""]
        lines += ["| set | queries | " + " | ".join(systems) + " |", "|---" * 8 + "|"]
        for name, row in part["sets"].items():
            mark = " (tainted)" if row["tainted"] else ""
            cells = " | ".join(f"{row[system]:.1f}" for system in systems)
            lines.append(f"| {name}{mark} | {row['queries']} | {cells} |")
        cells = " | ".join(f"**{part['macro'][system]:.1f}**" for system in systems)
        lines += [f"| **macro** | | {cells} |", ""]
        lines += [
            f"- {pair}: {g['mean']:+.2f} [{g['low']:+.2f}, {g['high']:+.2f}]"
            for pair, g in part["gains"].items()
        ]
        lines.append("")
    lines += [NOTES]
    return "\n".join(lines)


NOTES = """Paired bootstrap intervals, 95 %, stratified by domain. `best_single` and the arms of
`oracle` are chosen on dev; `pilot` is hard routing by mean cosine similarity to pilot embeddings
(RouterRetriever, arXiv 2409.02685), `soft` the installed mix with standing arms. Documents are
embedded once; experts are linear and pass the gate on dev or do not serve. Tainted: the base
model saw the documents in training. One seed. Ranking is exact over the stored halfvec vectors.
"""


def plot(result: dict[str, dict[str, object]]) -> None:
    """Gain over base for each set, and the routes that hard routing takes home."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(13, 4.5), sharey=True, layout="constrained")
    for axis, setting in zip(axes, ("merged", "per_domain"), strict=True):
        rows = result[setting]["sets"]
        for offset, system in enumerate(("multitask", "pilot", "soft", "oracle")):
            places = np.arange(len(rows)) + 0.2 * (offset - 1.5)
            values = [row[system] - row["base"] for row in rows.values()]
            axis.bar(places, values, width=0.2, label=system)
        axis.set_xticks(range(len(rows)), list(rows), rotation=30, ha="right")
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set_title(f"{setting.replace('_', ' ')} corpus")
    axes[0].set_ylabel("nDCG@10 over base, points")
    axes[0].legend()
    figure.savefig(RESULTS / "routing.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="drop the database and embed again")
    options = parser.parse_args()
    require_shared()
    started = time.perf_counter()
    with (
        server() as running,
        open_database(running.url, DATABASE, fresh=options.fresh) as connection,
    ):
        load(connection)
        judged = read_judged(connection, COLLECTION)
        console.print(f"{len(judged.keys)} documents, {len(judged.corpus.vectors)} chunks")
        train(connection, judged)
        compared = pilots_compared(connection, judged)
        result = {s.name: measure(connection, judged, s) for s in settings(judged)}
    result["pilots"] = compared
    result["about"] = {
        "documents": len(judged.keys),
        "chunks": len(judged.corpus.vectors),
        "seconds": round(time.perf_counter() - started),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "routing.json").write_text(json.dumps(result, indent=2) + "\n")
    (RESULTS / "routing.md").write_text(report(result))
    plot(result)
    console.print(report(result), markup=False)


if __name__ == "__main__":
    main()

"""The study's result as a page and as plots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from benchmarks.data import RESULTS
from benchmarks.routing_study.verdicts import BASE, MULTITASK, ORACLE, OURS, PAPER, WIDE

MAIN = (BASE, MULTITASK, WIDE, PAPER, "S13 LDA", OURS, ORACLE)
PARTS = ("merged", "per_domain")


def report(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    about = result["about"]
    lines = [
        f"# Routing study, {about['size']}",
        "",
        f"{about['documents']:,} documents, {len(about['domains'])} domains with an expert,"
        f" {about['test_queries_in_domains']:,} test queries in them, {about['seeds']} seed(s);"
        f" without an expert: {', '.join(about['without_expert'])}. Tainted (the base saw them in"
        f" training): {', '.join(about['tainted'])}. nDCG@10 in points, exact ranking, no BM25"
        " unless said.",
        "",
        "## Verdicts",
        "",
        *_table(
            ("", "asked", "met", "measured"),
            (
                (k, v["asked"], "yes" if v["met"] else "**no**", _short(v["measured"]))
                for k, v in result["verdicts"].items()
            ),
        ),
        "## Pre-registered comparisons, merged corpus",
        "",
        *_table(
            ("comparison", "gain", "95 % interval", "p (Holm)"),
            (
                (
                    pair,
                    f"{c['mean']:+.2f}",
                    f"{c['low']:+.2f} to {c['high']:+.2f}",
                    f"{c['p_holm']:.4f}",
                )
                for pair, c in result["registered"].items()
            ),
        ),
        "## Beside them: what explains the lead, not corrected",
        "",
        *_gains_table(result["beside"]),
        "## All systems, macro",
        "",
        *_table(
            (
                "system",
                *[f"{p}: {c}" for p in PARTS for c in ("domains", "clean", "without expert")],
            ),
            (
                (
                    system,
                    *[
                        f"{result['macro'][part][system][key]:.1f}"
                        for part in PARTS
                        for key in ("domains", "clean_domains", "without_expert")
                    ],
                )
                for system in result["macro"]["merged"]
            ),
        ),
    ]
    for part in PARTS:
        sets = (*about["domains"], *about["without_expert"])
        lines += [f"## By set, {part.replace('_', ' ')} corpus", ""]
        lines += _table(
            ("set", "queries", *MAIN),
            (
                (
                    f"{name}{' (tainted)' if name in about['tainted'] else ''}",
                    str(about["test_queries"][name]),
                    *[f"{result['sets'][part][system][name]:.1f}" for system in MAIN],
                )
                for name in sets
            ),
        )
    lines += ["## Every metric, macro, averaged over seeds", ""]
    metrics = list(next(iter(result["metrics"]["merged"].values())))
    lines += _table(
        ("system", *[f"{part}: {metric}" for part in PARTS for metric in metrics]),
        (
            (
                system,
                *[f"{result['metrics'][part][system][m]:.1f}" for part in PARTS for m in metrics],
            )
            for system in result["metrics"]["merged"]
        ),
    )
    lines += ["## With BM25 (used by no threshold)", ""]
    lines += _table(
        ("system", "dense weight", *about["domains"]),
        (
            (
                system,
                f"{row['dense_weight']:.1f}" if "dense_weight" in row else "",
                *[f"{row[name]:.1f}" for name in about["domains"]],
            )
            for system, row in result["with_bm25"].items()
        ),
    )
    lines += ["## On test queries that no earlier run has seen, merged corpus", ""]
    left = result["unseen"]
    lines += _table(
        ("system", *(f"{name} ({count})" for name, count in left["queries"].items()), "domains"),
        (
            (
                system,
                *(f"{row[name]:.1f}" for name in left["queries"]),
                f"{row['domains']:.1f}",
            )
            for system, row in left["macro"].items()
        ),
    )
    lines += _gains_table(left["gains"])
    lines += ["## Oracles", "", *_bullets(result["oracles"])]
    lines += ["", "## Latency, one run", "", *_bullets(result["latency"]), "", "## Ablations", ""]
    lines += _table(
        ("router queries a domain", "LDA, hard", "pilots by domain, hard"),
        (
            (str(row["queries"]), f"{row['lda']:.1f}", f"{row['pilots']:.1f}")
            for row in result["ablations"]["router_queries"]
        ),
    )
    lines += _bullets({"adding an expert's pilots": result["ablations"]["add"]})
    if "through_sql" in result:
        lines += ["", "## Through SQL", "", *_bullets(result["through_sql"])]
    if "recipes" in result:
        names = list(next(iter(result["recipes"].values())))
        lines += ["", "## Other ways to train, dev, own domain (others)", ""]
        lines += _table(
            ("", *names),
            (
                (recipe, *(f"{row[n]['own']:.1f} ({row[n]['others']:.1f})" for n in names))
                for recipe, row in result["recipes"].items()
            ),
        )
    if "lora" in result:
        lines += ["", *_lora(result["lora"])]
    return "\n".join(lines) + "\n"


def _lora(found: dict[str, Any]) -> list[str]:
    """Arms of both kinds."""
    lines = ["## Linear and LoRA experts together, merged corpus, first seed", ""]
    lines += _both(found, found["passes"])
    lines += _table(
        ("targets, compared with", *next(iter(found["targets"].values()))),
        (
            (
                words,
                *(
                    f"{row['measured']['points']:+.1f}: {'yes' if row['met'] else '**no**'}"
                    for row in targets.values()
                ),
            )
            for words, targets in found["targets"].items()
        ),
    )
    lines += ["### The same on test queries that no earlier run has seen", ""]
    lines += _both(found["unseen"], found["passes"])
    kept = ("dataset_oracle", "parameters", "training", "latency", "through_sql")
    return [*lines, *_bullets({key: found[key] for key in kept if key in found})]


def _both(found: dict[str, Any], passes: dict[str, float]) -> list[str]:
    lines = _table(
        (
            "system",
            "domains",
            "without expert",
            "passes",
            *(f"{name} ({count})" for name, count in found["queries"].items()),
        ),
        (
            (
                system,
                f"{row['domains']:.1f}",
                f"{row['without_expert']:.1f}" if "without_expert" in row else "",
                f"{passes[system]:.2f}" if system in passes else "",
                *(f"{found['sets'][system][name]:.1f}" for name in found["queries"]),
            )
            for system, row in found["macro"].items()
        ),
    )
    return [
        *lines,
        "Not corrected; one training of each expert.",
        "",
        *_gains_table(found["gains"]),
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    body = ["| " + " | ".join(row) + " |" for row in rows]
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *body, ""]


def _gains_table(gains: dict[str, Any]) -> list[str]:
    return _table(
        ("comparison", "gain", "95 % interval"),
        (
            (pair, f"{c['mean']:+.2f}", f"{c['low']:+.2f} to {c['high']:+.2f}")
            for pair, c in gains.items()
        ),
    )


def _bullets(values: dict[str, Any]) -> list[str]:
    return [f"- {key}: {_short(value)}" for key, value in values.items()]


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(each)}" for key, each in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def plots(result: dict[str, Any], name: str) -> None:
    """Gains by set, expert x domain, routing confusion, number of experts: NAME_*.png."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    about = result["about"]
    _gains(plt, result, (*about["domains"], *about["without_expert"]), name)
    _matrix(plt, result, about["domains"], name)
    _confusion(plt, result, name)
    _experts(plt, result, name)


def _gains(plt: Any, result: dict[str, Any], sets: Sequence[str], name: str) -> None:
    shown = (MULTITASK, PAPER, OURS, ORACLE)
    figure, axes = plt.subplots(2, 1, figsize=(11, 8), sharex=True, layout="constrained")
    for axis, part in zip(axes, PARTS, strict=True):
        for offset, system in enumerate(shown):
            rows = result["sets"][part]
            values = [rows[system][n] - rows[BASE][n] for n in sets]
            places = np.arange(len(sets)) + 0.2 * (offset - 1.5)
            axis.bar(places, values, width=0.2, label=system)
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set_title(f"{part.replace('_', ' ')} corpus")
        axis.set_ylabel("nDCG@10 over base, points")
    axes[1].set_xticks(range(len(sets)), sets, rotation=30, ha="right")
    axes[0].legend()
    figure.savefig(RESULTS / f"{name}_gains.png", dpi=100)
    plt.close(figure)


def _matrix(plt: Any, result: dict[str, Any], domains: Sequence[str], name: str) -> None:
    rows = result["sets"]["merged"]
    gains = np.asarray(
        [[rows[f"S4 expert {e}"][d] - rows[BASE][d] for d in domains] for e in domains]
    )
    figure, axis = plt.subplots(figsize=(8, 7), layout="constrained")
    bound = float(np.abs(gains).max()) or 1.0
    image = axis.imshow(gains, cmap="RdBu", vmin=-bound, vmax=bound)
    for row, column in np.ndindex(gains.shape):
        axis.text(column, row, f"{gains[row, column]:+.1f}", ha="center", va="center", fontsize=8)
    axis.set_xticks(range(len(domains)), domains, rotation=45, ha="right")
    axis.set_yticks(range(len(domains)), [f"expert {e}" for e in domains])
    axis.set_title("nDCG@10 over base, merged corpus")
    figure.colorbar(image, ax=axis)
    figure.savefig(RESULTS / f"{name}_experts.png", dpi=100)
    plt.close(figure)


def _confusion(plt: Any, result: dict[str, Any], name: str) -> None:
    heaviest = result["seeds"]["merged"][0]["heaviest"]
    sets, arms = list(heaviest), sorted({arm for shares in heaviest.values() for arm in shares})
    shares = np.asarray([[heaviest[s].get(arm, 0.0) for arm in arms] for s in sets])
    figure, axis = plt.subplots(figsize=(8, 7), layout="constrained")
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(shares.shape):
        if shares[row, column] >= 0.005:
            axis.text(
                column, row, f"{shares[row, column]:.2f}", ha="center", va="center", fontsize=7
            )
    axis.set_xticks(range(len(arms)), arms, rotation=45, ha="right")
    axis.set_yticks(range(len(sets)), sets)
    axis.set_title("share of a set's queries by heaviest arm, S17, merged corpus, first seed")
    figure.savefig(RESULTS / f"{name}_routes.png", dpi=100)
    plt.close(figure)


def _experts(plt: Any, result: dict[str, Any], name: str) -> None:
    rows = result["ablations"]["experts"]
    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    counts = sorted({row["experts"] for row in rows})
    for key, label in (("paper", PAPER), ("ours", f"{OURS}, without multi-task")):
        means = [np.mean([r[key] for r in rows if r["experts"] == count]) for count in counts]
        axis.plot(counts, means, marker="o", label=label)
    axis.axhline(result["macro"]["merged"][BASE]["domains"], color="black", label=BASE)
    axis.set_xlabel("experts, mean of three random orders")
    axis.set_ylabel("macro nDCG@10 over all domains")
    axis.legend()
    figure.savefig(RESULTS / f"{name}_number.png", dpi=100)
    plt.close(figure)

"""Search on real data: filters by band, words, fusion, and how times grow with the rows.

Run ``python -m benchmarks.search``: it writes results/search.json, search.md and search.png.
Databases are kept, so that a second run loads nothing. ``--quick`` does the same on 20,000 rows
and a few small sets, into search_quick.json and so on; ``--only`` measures a part anew and keeps
the others.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import search_bands, search_fusion, search_scale
from benchmarks.data import RESULTS, require_shared, server

ROWS, QUICK_ROWS = 200_000, 20_000
PARTS = ("bands", "fusion", "scale")

console = Console()

Result = dict[str, Any]


def bands(url: str, *, quick: bool) -> Result:
    """Ours and plain SQL on all rows; other packages' stores on 20,000, which they load slowly."""
    found = {
        "bands_of_20000_with_stores": search_bands.measure(
            url, rows=QUICK_ROWS, quick=True, peers=True
        )
    }
    if quick:
        return {"bands": found["bands_of_20000_with_stores"]}
    return {"bands": search_bands.measure(url, rows=ROWS, stores=False), **found}


def fusion(url: str, *, quick: bool) -> Result:
    """BM25 beside bm25s, and fusions beside either arm."""
    return dict(search_fusion.measure(url, quick=quick))


def scale(url: str, *, quick: bool) -> Result:
    """Times by number of rows."""
    return {"scale": search_scale.measure(url, quick=quick)}


MEASURES: dict[str, Callable[..., Result]] = {"bands": bands, "fusion": fusion, "scale": scale}


def report(result: Result) -> str:
    """The result as a Markdown page."""
    lines = ["# Search", "", *band_lines("bands", result), *fusion_lines(result)]
    return "\n".join([*lines, *scale_lines(result)]) + "\n"


def band_lines(name: str, result: Result) -> list[str]:
    """Recall, rows and pages of ours by band, then of all ways together."""
    if name not in result:
        return []
    lines = [
        "## Filters",
        "",
        "| band | queries | recall@10 | under-filled | pages | vs best: median | max |",
    ]
    lines.append("|---" * 7 + "|")
    for band, ways in result[name].items():
        ours = ways["ours"]
        cells = (ours[key] for key in BAND_FIGURES)
        lines.append(
            f"| {band} | " + " | ".join("-" if c is None else f"{c:g}" for c in cells) + " |"
        )
    lines += ["", BAND_NOTES, ""]
    for title, table in (("all rows", name), ("20,000 rows", "bands_of_20000_with_stores")):
        if table in result:
            lines += [
                f"### Beside others, {title}",
                "",
                "| way | recall@10 | under-filled | pages |",
            ]
            lines.append("|---" * 4 + "|")
            for way, figures in result[table]["overall"].items():
                recall = figures.get("sampled_recall_at_10", figures["recall_at_10"])
                lines.append(
                    f"| {way} | {recall} | {figures['under_filled_queries']} of"
                    f" {figures['queries']} | {figures['buffers_median']} |"
                )
            lines.append("")
    return lines


BAND_FIGURES = (
    "queries",
    "recall_at_10",
    "under_filled_queries",
    "buffers_median",
    "buffers_vs_best_median",
    "buffers_vs_best_max",
)

BAND_NOTES = """k = 10. Pages are those of shared buffers that a search touches, planning and
catalogs included on both sides. The best single plan of a query is the cheapest of exact search and
twelve settings of the index, of those that fill every result and reach a recall of 0.99 in that
band. A search reads about 100 pages of catalogs for its filter and plan, whatever it finds: that is
what the ratio shows where few rows match. Correlated: the rows nearest to a point near the query
match; anti-correlated: those furthest from it."""


def fusion_lines(result: Result) -> list[str]:
    """BM25 and the fusions, set by set."""
    if "fusion" not in result:
        return []
    lexical, fused = result["lexical"], result["fusion"]
    systems = ("dense", "lexical", "rrf", "zscore", "minmax", "fitted")
    lines = [
        "## Words and fusion",
        "",
        f"BM25 on SciFact: nDCG@10 {lexical['scifact_ndcg10']}, bm25s on the same lexemes"
        f" {lexical['bm25s_ndcg10']}.",
        "",
        f"| set | dev | {' | '.join(systems)} | fit | fitted - better arm |",
        "|---" * (len(systems) + 4) + "|",
    ]
    for name, row in fused["sets"].items():
        cells = " | ".join(f"{row[system]:.1f}" for system in systems)
        kept = row["fusion"] if row["installed"] else "refused"
        gain = interval(row["fitted_over_best_arm"])
        lines.append(f"| {name} | {row['dev_queries']} | {cells} | {kept} | {gain} |")
    means = " | ".join(f"**{fused[f'macro_{system}']:.1f}**" for system in systems)
    gain = interval(fused["fitted_over_best_arm"])
    return [
        *lines,
        f"| **macro** | | {means} | | {gain} |",
        "",
        f"nDCG@10 on test, fitted on dev. Better arm of each set: {fused['macro_best_arm']:.1f}."
        f" Fitted - rrf: {interval(fused['fitted_over_rrf'])}; fitted - z-scores without a fit:"
        f" {interval(fused['fitted_over_zscore'])} (95 % paired bootstrap). Where a fit is refused,"
        " z-scores with weight 0.3 serve; zscore 0.00 or 1.00 is one arm alone.",
        "",
    ]


def interval(gain: dict[str, float]) -> str:
    """A gain in points with its interval."""
    return f"{gain['mean']:+.1f} [{gain['low']:+.1f}, {gain['high']:+.1f}]"


def scale_lines(result: Result) -> list[str]:
    """Milliseconds by rows and kind."""
    if "scale" not in result:
        return []
    kinds = kinds_of(result)
    lines = ["## Rows", "", "Milliseconds, p50 / p95, one client, caches warm.", ""]
    lines += ["| rows | " + " | ".join(kinds) + " |", "|---" * (1 + len(kinds)) + "|"]
    for rows, times in result["scale"].items():
        cells = (f"{times[kind]['p50']} / {times[kind]['p95']}" for kind in kinds)
        lines.append(f"| {int(rows):,} | " + " | ".join(cells) + " |")
    ratios = ", ".join(str(each["hybrid_cpu_over_arms"]) for each in result["scale"].values())
    return [*lines, "", f"CPU of a hybrid search over its arms apart, by rows: {ratios}."]


def kinds_of(result: Result) -> list[str]:
    """Kinds of queries that were timed."""
    first = next(iter(result.get("scale", {}).values()), {})
    return [kind for kind, found in first.items() if isinstance(found, dict)]


def plot(result: Result, file: Path) -> None:
    """Recall and pages by band, and times by rows."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(17, 5.5), layout="constrained")
    shown = {band: ways["ours"] for band, ways in result.get("bands", {}).items()}
    names = list(shown)
    for axis, key in zip(axes, ("recall_at_10", "buffers_vs_best_median"), strict=False):
        axis.barh(names[::-1], [shown[name][key] or 0 for name in names[::-1]])
        axis.set_title(key.replace("_", " "))
    for kind in kinds_of(result):
        rows = [int(each) for each in result["scale"]]
        axes[2].loglog(rows, [t[kind]["p50"] for t in result["scale"].values()], "o-", label=kind)
    axes[2].set_title("milliseconds at the median by rows")
    axes[2].legend()
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small: under three minutes")
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part anew")
    options = parser.parse_args()
    require_shared()
    target = RESULTS / ("search_quick.json" if options.quick else "search.json")
    kept = json.loads(target.read_text()) if options.only and target.exists() else {}
    started = time.perf_counter()
    with server() as running:
        for part in options.only or PARTS:
            console.rule(part)
            kept |= MEASURES[part](running.url, quick=options.quick)
    console.print(report(kept), markup=False)
    console.print(f"{time.perf_counter() - started:.0f} seconds")
    target.write_text(json.dumps(kept, indent=2) + "\n")
    target.with_suffix(".md").write_text(report(kept))
    plot(kept, target.with_suffix(".png"))


if __name__ == "__main__":
    main()

"""Figures of filtered searches by band, and their tables."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.search_bands_data import Case

FIGURES = {
    "queries": "queries",
    "recall_at_10": "recall",
    "under_filled_queries": "short",
    "buffers_median": "pages",
    "buffers_vs_best_median": "/best",
    "buffers_vs_best_max": "max",
    "buffers_vs_hindsight_median": "/hindsight",
    "milliseconds_median": "ms",
    "time_vs_ours_median": "ms/ours",
}
"""Figures of each way to search, and their headings."""
PROMISED_RECALL = 0.99
"""What a single plan has to reach on the queries of a band to be compared with."""
Results = dict[str, dict[str, dict[str, Any]]]
"""Figures by band and by way to search."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one way to search did with one case."""

    rows: int
    filled: bool
    recall: float | None
    buffers: int | None = None
    seconds: float | None = None
    plan: str | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """One case by every way to search."""

    case: Case
    outcomes: dict[str, Outcome]
    plans: dict[str, Outcome]
    """Every single plan; none where costs are not measured."""
    best_plan: str | None = None
    """The cheapest here of the single plans that keep the promise in the whole band."""

    @property
    def best_buffers(self) -> int | None:
        """Pages of the best plan."""
        return self.plans[self.best_plan].buffers if self.best_plan else None

    @property
    def least_buffers(self) -> int | None:
        """Pages of the cheapest plan that was right for this query, as only hindsight knows."""
        right = [p.buffers for p in self.plans.values() if p.filled and p.recall in (1, None)]
        return min(right, default=None)


# Figures


def figures_by_band(measured: Sequence[Measured]) -> Results:
    """Figures of each band, then of all."""
    bands: dict[str, list[Measured]] = {}
    for one in measured:
        bands.setdefault(one.case.band, []).append(one)
    bands = {band: with_best(held) for band, held in bands.items()}
    everything = [one for held in bands.values() for one in held]
    return {band: summary(held) for band, held in bands.items()} | {"overall": summary(everything)}


def with_best(held: Sequence[Measured]) -> list[Measured]:
    """The cases of a band with the best single plan of each, of those that keep the promise."""
    costly = [one for one in held if one.plans]
    keeping = [
        name
        for name in (costly[0].plans if costly else ())
        if all(one.plans[name].filled for one in costly)
        and mean_recall([one.plans[name] for one in costly]) >= PROMISED_RECALL
    ]
    return [
        replace(one, best_plan=min(keeping, key=lambda name, one=one: one.plans[name].buffers))
        if one.plans
        else one
        for one in held
    ]


def mean_recall(outcomes: Sequence[Outcome]) -> float:
    """Mean recall; 1 where nothing was to be found."""
    recalls = [found.recall for found in outcomes if found.recall is not None]
    return statistics.fmean(recalls) if recalls else 1.0


def summary(measured: Sequence[Measured]) -> dict[str, dict[str, Any]]:
    """Figures of a band, by way to search."""
    ways = dict.fromkeys(way for one in measured for way in one.outcomes)
    return {way: way_summary(measured, way) for way in ways}


def way_summary(measured: Sequence[Measured], way: str) -> dict[str, Any]:
    """Figures of one way to search."""
    held = [(one, one.outcomes[way]) for one in measured if way in one.outcomes]
    recalls = [found.recall for _, found in held if found.recall is not None]
    buffers = [found.buffers for _, found in held if found.buffers is not None]
    ratios = [
        found.buffers / one.best_buffers
        for one, found in held
        if found.buffers is not None and one.best_buffers
    ]
    hindsight = [
        found.buffers / one.least_buffers
        for one, found in held
        if found.buffers is not None and one.least_buffers
    ]
    times = [found.seconds / one.outcomes["ours"].seconds for one, found in held if one.case.costs]
    clocks = [1_000 * found.seconds for one, found in held if one.case.costs]
    figures = {
        "queries": len(held),
        "recall_at_10": rounded(recalls, statistics.fmean),
        "under_filled_queries": sum(not found.filled for _, found in held),
        "buffers_median": rounded(buffers, statistics.median),
        "buffers_vs_best_median": rounded(ratios, statistics.median),
        "buffers_vs_best_max": rounded(ratios, max),
        "buffers_vs_hindsight_median": rounded(hindsight, statistics.median),
        "milliseconds_median": rounded(clocks, statistics.median),
        "time_vs_ours_median": rounded(times, statistics.median),
    }
    if way != "ours":
        return figures
    best = Counter(one.best_plan for one, _ in held if one.best_plan)
    plans = Counter(found.plan for _, found in held)
    sampled = [found.recall for one, found in held if one.case.costs and found.recall is not None]
    figures["sampled_recall_at_10"] = rounded(sampled, statistics.fmean)
    return figures | {"plan_counts": dict(plans), "best_plan_counts": dict(best.most_common())}


def rounded(values: Sequence[float], figure: Callable[[Sequence[float]], float]) -> float | None:
    """A figure of values with four digits, None where there are no values."""
    return float(f"{figure(values):.4g}") if values else None


def show(found: Results) -> None:
    """Print a table: a line for each band and way to search, and how often each plan was taken."""
    table = Table("band", "way", *FIGURES.values(), "plans", "best", box=SIMPLE, pad_edge=False)
    for band, ways in found.items():
        for way, figures in ways.items():
            values = [figures[name] for name in FIGURES]
            cells = ["-" if value is None else f"{value:g}" for value in values]
            counts = [figures.get(name, {}) for name in ("plan_counts", "best_plan_counts")]
            plans = [", ".join(f"{name}: {n}" for name, n in count.items()) for count in counts]
            table.add_row(band if way == "ours" else "", way, *cells, *plans)
    Console(width=200).print(table)


def show_worst(measured: Sequence[Measured], count: int) -> None:
    """Print the cases that read most pages beyond the best single plan."""
    table = Table("band", "filter", "recall", "plan", "pages", "best", "pages", box=SIMPLE)
    costly = [one for one in measured if one.best_buffers is not None]
    for one in sorted(costly, key=lambda one: one.best_buffers - one.outcomes["ours"].buffers)[
        :count
    ]:
        ours = one.outcomes["ours"]
        cells = (one.case.filter, ours.recall, ours.plan, ours.buffers, one.best_plan)
        table.add_row(one.case.band, *map(str, cells), str(one.best_buffers))
    Console(width=200).print(table)

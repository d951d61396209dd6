"""The run record of an expert as a picture: its curves, and its gain in each domain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pgembed.errors import InputError
from pgembed.model import Expert
from pgembed.plotting import check_plot, save

GAIN, LOSS = "tab:blue", "tab:red"


def plot_expert(expert: Expert, file: Path) -> None:
    """Draw loss and nDCG@10 by step, and the gain over base of each domain's dev queries.

    Raises:
        InputError: the expert has no run record, matplotlib is missing, or the file cannot be
            written.
    """
    check_plot(file)
    if not expert.metrics.get("curve"):
        raise InputError(
            f"expert {expert.name!r} has no curve to draw: it was not trained here",
            hint="pgembed expert train makes one.",
        )
    from matplotlib.figure import Figure

    gains = gains_of(expert.metrics)
    figure = Figure(figsize=(10, 2.5 + 0.3 * len(gains)), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_curves(left, expert.metrics)
    _draw_gains(right, gains)
    figure.suptitle(f"{expert.name}: {expert.kind}, {expert.state}")
    save(figure, file)


def gains_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The gain on dev of each domain: those learned from first, then the others."""
    return {
        label or "all": float(figures["gain"])
        for part in ("dev_ndcg_at_10", "elsewhere", "general")
        for label, figures in metrics.get(part, {}).items()
    }


def _draw_curves(axis: Any, metrics: Mapping[str, Any]) -> None:
    steps, scores = zip(*metrics["curve"], strict=True)
    axis.plot(steps, scores, color=GAIN, marker=".")
    axis.axvline(metrics.get("best_step", 0), color="grey", linestyle=":", label="kept")
    axis.set_xlabel("step")
    axis.set_ylabel("held-out nDCG@10", color=GAIN)
    axis.legend(loc="lower right")
    if losses := metrics.get("losses"):
        other = axis.twinx()
        other.plot(*zip(*losses, strict=True), color=LOSS, linewidth=1)
        other.set_ylabel("loss", color=LOSS)


def _draw_gains(axis: Any, gains: Mapping[str, float]) -> None:
    places = range(len(gains))
    bars = axis.barh(
        places, gains.values(), color=[GAIN if g >= 0 else LOSS for g in gains.values()]
    )
    axis.bar_label(bars, [f"{gain:+.3f}" for gain in gains.values()], padding=3)
    axis.set_yticks(places, list(gains))
    axis.invert_yaxis()
    axis.axvline(0, color="black", linewidth=0.8)
    axis.margins(x=0.25)
    axis.set_xlabel("gain in nDCG@10 over base, dev queries")

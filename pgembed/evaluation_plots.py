"""Plots of an evaluation as SVG that can stand in a page: text stays text, nothing is fetched."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgembed.bootstrap import Interval
from pgembed.errors import InputError
from pgembed.model import Vectors
from pgembed.system_scores import Shares

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LONGEST = 28
"""Letters of a label; longer ones are cut."""

MAPPED = 300
"""Queries of a domain that a map shows: more would hide each other."""

SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "pgembed",  # equal figures give equal pages
    "svg.fonttype": "none",  # the browser's fonts have more letters than matplotlib's
    "text.parse_math": False,  # "$" in a name is a dollar
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot with what is said about it."""

    title: str
    caption: str
    svg: str


@dataclass(frozen=True, slots=True)
class Points:
    """Queries of a domain, or pilots of an expert, on a map."""

    name: str
    vectors: Vectors


def check_plotting() -> None:
    """Raise InputError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError(
            "plots need matplotlib", hint="pip install 'pgembed-router[plot]'"
        ) from error


def matrix_plot(
    rows: Sequence[str],
    columns: Sequence[str],
    values: NDArray[np.float64],
    *,
    differences: bool = False,
) -> str:
    """A heat map with its numbers; ``differences`` colours losses and gains apart.

    Args:
        rows: labels from top to bottom.
        columns: labels from left to right.
        values: shape (rows, columns).
        differences: whether 0 is the middle.
    """
    size = (2.6 + 0.75 * len(columns), 1.3 + 0.36 * len(rows))
    largest = max(float(np.abs(values).max(initial=0)), 1e-9)
    with _figure(*size) as (axes, svg):
        # Squares, not an image: a page may forbid images, and these are sharp at any size.
        mesh = axes.pcolormesh(
            values,
            cmap="RdBu" if differences else "Blues",
            vmin=-largest if differences else 0,
            vmax=largest if differences else max(1.0, largest),
            edgecolors="w",
        )
        axes.set_xticks(
            np.arange(len(columns)) + 0.5, list(map(label, columns)), rotation=40, ha="right"
        )
        axes.set_yticks(np.arange(len(rows)) + 0.5, list(map(label, rows)))
        axes.invert_yaxis()
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        dark = mesh.to_rgba(values)[..., :3] @ (0.3, 0.6, 0.1) < 0.55
        for row, column in np.ndindex(*values.shape):
            value = float(values[row, column])
            text = f"{value:+.3f}" if differences else f"{value:.3f}"
            colour = "w" if dark[row, column] else "k"
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=colour)
        return svg("matrix")


def share_plot(arms: Shares, title: str, identity: str) -> str:
    """By domain, the share of the queries that each arm answers: bars of one length.

    Args:
        arms: the shares.
        title: of the axis.
        identity: what ids begin with; another for each plot of a page.
    """
    names = sorted({arm for shares in arms.values() for arm in shares})
    with _figure(8.0, 1.3 + 0.36 * len(arms)) as (axes, svg):
        colours = _colours(names)
        for row, shares in enumerate(arms.values()):
            left = 0.0
            for name in names:
                width = shares.get(name, 0.0)
                axes.barh(row, width, left=left, color=colours[name], edgecolor="w", height=0.75)
                if width >= 0.08:
                    axes.text(left + width / 2, row, f"{width:.0%}", ha="center", va="center")
                left += width
        axes.set_yticks(range(len(arms)), list(map(label, arms)))
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xlabel(title)
        _legend(axes, {name: colours[name] for name in names})
        return svg(identity)


def gain_plot(gains: Mapping[str, Mapping[str, Interval]], metric: str) -> str:
    """By domain, the gain of each system with its interval."""
    domains = list(next(iter(gains.values())))
    with _figure(8.0, 1.3 + 0.24 * len(domains) * (len(gains) + 0.6)) as (axes, svg):
        colours = _colours(list(gains))
        step = 0.8 / len(gains)
        for number, (system, by_domain) in enumerate(gains.items()):
            means = np.asarray([each.mean for each in by_domain.values()])
            low = means - [each.low for each in by_domain.values()]
            high = np.asarray([each.high for each in by_domain.values()]) - means
            rows = np.arange(len(domains)) + (number - (len(gains) - 1) / 2) * step
            # A percentile interval of few, skewed scores may lie beside its mean.
            error = np.maximum([low, high], 0)
            axes.errorbar(means, rows, xerr=error, fmt="o", ms=4, color=colours[system], capsize=2)
        axes.axvline(0, color="#888", lw=0.8)
        axes.set_yticks(range(len(domains)), list(map(label, domains)))
        axes.invert_yaxis()
        axes.set_xlabel(f"gain over base, {metric}")
        _legend(axes, colours)
        return svg("gains")


def map_plot(queries: Sequence[Points], pilots: Sequence[Points]) -> tuple[str, float]:
    """Queries and pilots in the plane of the two main components of the queries.

    Principal components by singular values of the queries' base vectors less their mean; domains
    weigh alike through the sample that is drawn of each.

    Returns:
        The plot, and the share of the queries' variance that the plane shows.
    """
    shown = [_sample(each.vectors) for each in queries]
    centred = np.concatenate(shown).astype(np.float64)
    mean = centred.mean(axis=0)
    _, singular, axes_of_space = np.linalg.svd(centred - mean, full_matrices=False)
    plane = axes_of_space[:2].T
    share = float((singular[:2] ** 2).sum() / max(float((singular**2).sum()), 1e-12))
    with _figure(8.0, 6.0) as (axes, svg):
        colours = _colours([each.name for each in queries])
        for each, vectors in zip(queries, shown, strict=True):
            x, y = _flat((vectors - mean) @ plane)
            axes.scatter(x, y, s=7, color=colours[each.name], alpha=0.5, linewidths=0)
        for each in pilots:
            x, y = _flat((each.vectors - mean) @ plane)
            axes.scatter(x, y, s=90, marker="*", color="k", edgecolors="w", zorder=3)
            for place in zip(x, y, strict=True):
                axes.annotate(label(each.name), place, xytext=(5, 4), textcoords="offset points")
        axes.set_xlabel("first component")
        axes.set_ylabel("second component")
        _legend(axes, colours)
        return svg("map"), share


def label(text: str) -> str:
    """A name as it can stand in a plot: short, on one line, without control characters."""
    plain = "".join(each if each.isprintable() else "\ufffd" for each in text)
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple[Axes, Callable[[str], str]]]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(SETTINGS), warnings.catch_warnings():
        # The browser has the letters that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure = Figure(figsize=(width, height))

        def svg(prefix: str) -> str:
            file = io.StringIO()
            nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            figure.savefig(file, format="svg", bbox_inches="tight", metadata=nothing)
            text = file.getvalue()
            # Ids of one plot must not be those of another in the same page.
            text = re.sub(r'( id="|url\(#|href="#)', rf"\1{prefix}-", text)
            return text[text.index("<svg") :]

        yield figure.add_subplot(), svg


def _colours(names: Sequence[str]) -> dict[str, Any]:
    from matplotlib import colormaps

    palette = colormaps["tab20" if len(names) > 10 else "tab10"]
    return {name: palette(number % palette.N) for number, name in enumerate(names)}


def _legend(axes: Axes, colours: Mapping[str, Any]) -> None:
    from matplotlib.patches import Patch

    # Handles and labels by themselves: a label that begins with "_" would be left out otherwise.
    handles = [Patch(color=colour) for colour in colours.values()]
    axes.legend(
        handles,
        [label(name) for name in colours],
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        frameon=False,
    )


def _sample(vectors: Vectors) -> Vectors:
    if len(vectors) <= MAPPED:
        return vectors
    rows = np.random.default_rng(0).choice(len(vectors), MAPPED, replace=False)
    return vectors[np.sort(rows)]


def _flat(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both coordinates; 0 for the second where the vectors have one dimension."""
    x = points[:, 0]
    return x, points[:, 1] if points.shape[1] > 1 else np.zeros_like(x)

"""Audit a collection: recall, rows and pages of its searches against exact ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from pgembed.collections import search_target
from pgembed.database import Connection, rows_of, translated
from pgembed.encoders import Encoder
from pgembed.errors import InputError
from pgembed.model import Mode
from pgembed.plotting import check_plot, save
from pgembed.searching import filter_json, routed_vector

BANDS = ((0.5, ">= 50 %"), (0.1, "10-50 %"), (0.01, "1-10 %"), (0.001, "0.1-1 %"), (0.0, "< 0.1 %"))
"""Least share of chunks that match, and how the band is called."""

UNFILTERED = "no filter"


@dataclass(frozen=True, slots=True)
class AuditedSearch:
    """One search beside the exact one."""

    band: str
    """The share of chunks that match its filter."""
    plan: str
    matching: int
    """Chunks."""
    wanted: int
    """min(k, matching rows)."""
    returned: int
    recall: float | None
    """Share of the nearest rows that came back; None where nothing matches."""
    buffers: int
    """Pages of shared memory that the search touched."""


@dataclass(frozen=True, slots=True)
class AuditedBand:
    """The searches of one band and plan together."""

    band: str
    plan: str
    searches: int
    recall: float | None
    returned: int
    """Rows of all searches."""
    wanted: int
    """Rows that they should have returned: min(k, matching) of each."""
    under_filled: int
    """Searches that returned fewer rows than min(k, matching)."""
    buffers: float
    """Median of the pages."""


def audit_recall(  # noqa: PLR0913 - one argument a choice of what is asked
    connection: Connection,
    collection: str,
    *,
    queries: Sequence[str] | None = None,
    filters: Sequence[Mapping[str, Any]] = (),
    k: int = 10,
    sample: int = 100,
    mode: Mode = "soft",
    encoder: Encoder | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[AuditedSearch]:
    """Run searches, and compare each with an exact one.

    Args:
        connection: the caller's.
        collection: its name.
        queries: texts, which are routed as ``search`` routes them; None takes cached queries of
            the encoder, or chunks.
        filters: each query is searched with each of them; with none where there are none.
        k: hits wanted.
        sample: queries to take where ``queries`` is None.
        mode: how texts are routed.
        encoder: the collection's own, when it is open already.
        on_progress: called with searches done and searches in all.

    Raises:
        NotFoundError: no such collection.
        FilterError, InputError: a filter, a query or k cannot be used; or there is nothing to ask.
    """
    conditions = [filter_json(each) for each in filters] or [None]
    vectors = _vectors(connection, collection, queries, sample, mode, encoder)
    if not vectors and queries is not None:
        raise InputError("there is no query to audit with: the list of them is empty")
    if not vectors:
        raise InputError(
            f"collection {collection!r} has no query to be audited with: it holds no embeddings",
            hint=f"Embed it first: pgembed sync {collection}",
        )
    ((chunks,),) = rows_of(
        connection,
        "select chunks from pgembed.collection_status() where name = %s",
        (collection,),
    )
    audited = []
    for condition in conditions:
        for vector in vectors:
            found = _audit_one(connection, collection, vector, k, condition)
            plan, matching, wanted, returned, recall, buffers = found
            band = UNFILTERED if condition is None else _band(matching / max(chunks, 1))
            audited.append(
                AuditedSearch(band, plan or "", matching, wanted, returned, recall, buffers)
            )
            if on_progress:
                on_progress(len(audited), len(conditions) * len(vectors))
    return audited


def by_band(audited: Sequence[AuditedSearch]) -> list[AuditedBand]:
    """The searches summed up, from no filter to the most selective band."""
    order = [UNFILTERED, *(name for _, name in BANDS)]
    groups: dict[tuple[int, str], list[AuditedSearch]] = {}
    for one in audited:
        groups.setdefault((order.index(one.band), one.plan), []).append(one)
    return [
        AuditedBand(
            order[place],
            plan,
            len(group),
            fmean(recalls)
            if (recalls := [g.recall for g in group if g.recall is not None])
            else None,
            sum(g.returned for g in group),
            sum(g.wanted for g in group),
            sum(g.returned < g.wanted for g in group),
            median(g.buffers for g in group),
        )
        for (place, plan), group in sorted(groups.items())
    ]


def plot(bands: Sequence[AuditedBand], file: Path) -> None:
    """Recall and pages by band as a picture, in the format of the file's ending.

    Raises:
        InputError: matplotlib is missing, or the file cannot be written.
    """
    check_plot(file)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.5 + 0.4 * len(bands)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axis, title, values, form in (
        (left, "recall", [each.recall for each in bands], ".3f"),
        (right, "pages (median)", [each.buffers for each in bands], ",.0f"),
    ):
        # A band without a match has no recall, which is not a recall of 0.
        bars = axis.barh(range(len(bands)), [value or 0.0 for value in values])
        labels = ["none" if value is None else format(value, form) for value in values]
        axis.bar_label(bars, labels, padding=3)
        axis.margins(x=0.2)
        axis.locator_params(axis="x", nbins=5)
        axis.set_title(title)
    left.set_yticks(range(len(bands)), [f"{each.band}, {each.plan}" for each in bands])
    left.invert_yaxis()
    save(figure, file)


def _vectors(
    connection: Connection,
    collection: str,
    queries: Sequence[str] | None,
    sample: int,
    mode: Mode,
    encoder: Encoder | None,
) -> list[list[float]]:
    if queries is None and sample < 1:
        raise InputError(f"sample is {sample}; it is how many queries to try, 1 or more")
    target = search_target(connection, collection)
    if queries is not None:
        return [
            routed_vector(connection, target, text, mode, encoder)[0].tolist() for text in queries
        ]
    with translated():
        rows = rows_of(
            connection,
            "select q::real[] from pgembed.sample_queries(%s, %s::int) as q",
            (collection, sample),
        )
    return [row for (row,) in rows]


def _audit_one(
    connection: Connection, collection: str, vector: list[float], k: int, condition: str | None
) -> tuple[Any, ...]:
    arguments = (collection, vector, k, condition)
    with translated():
        (found,) = rows_of(
            connection,
            "select plan, matching, wanted, returned, recall"
            " from pgembed.recall_of(%s, pgembed.as_vector(%b::real[]), %s::int, %s::jsonb)",
            arguments,
        )
        ((buffers,),) = rows_of(
            connection,
            "select (data ->> 'hit')::int + (data ->> 'read')::int from pgembed.explain_search("
            "%s, pgembed.as_vector(%b::real[]), %s::int, %s::jsonb, buffers => true)"
            " where name = 'buffers'",
            arguments,
        )
    return (*found, buffers)


def _band(share: float) -> str:
    return next(name for least, name in BANDS if share >= least)

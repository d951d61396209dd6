"""Which registered expert fits a table: what each was trained on, and how far a sample is off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pgembed.collections import search_target
from pgembed.database import Connection, rows_of, translated
from pgembed.errors import InputError, TrainingError
from pgembed.expert_domains import Side, described, expert_domain, store_domain, vector_of
from pgembed.judgments import JudgedCollection
from pgembed.linear_expert import unit
from pgembed.model import Vectors
from pgembed.registry import registered_encoder
from pgembed.rkme import Points, discrepancy

SAMPLE = 500
"""Vectors of a table that are compared with each expert."""

FEWEST = 10
"""Vectors below which nothing is said of a domain or a table."""

MOST = 2000
"""Vectors of a table that are compared at most: memory grows with the square of their number."""

ENOUGH_QUERIES = 30
"""Judged queries from which on a table is compared by its queries rather than its documents."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How near an expert's domain is to a table."""

    expert: str
    state: str
    mmd: float
    """Maximum mean discrepancy: 0 for the same domain."""
    low: float
    high: float
    """Its 95 % bootstrap interval."""
    cosine: float
    """Of the two centroids, for comparison."""
    out_of_domain: bool
    """The whole interval lies above what samples of the expert's own domain differ by."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The experts of an encoder for a table, the nearest first."""

    collection: str
    side: Side
    """What was compared: judged queries, or chunks."""
    sample: int
    fits: tuple[Fit, ...]
    undescribed: tuple[str, ...]
    """Active experts whose domain is not described, or was not since they were replaced."""


def describe_expert(
    connection: Connection,
    encoder_name: str,
    expert_name: str,
    judged: Sequence[JudgedCollection],
    domain: str | None,
) -> tuple[Side, ...]:
    """Store what an expert was trained on; nothing is committed here.

    Described are the training queries, and the chunks of the rows relevant to them: each by a
    reduced kernel mean embedding, its centroid, and how much samples of it differ.

    Args:
        connection: the caller's.
        encoder_name: of the expert.
        expert_name: of the expert; what is described of it already is replaced.
        judged: the collections that it was trained on.
        domain: that it was trained on; None for all.

    Returns:
        The sides that are described: those with at least 10 different vectors.

    Raises:
        NotFoundError: no such encoder or expert.
        TrainingError: neither side has enough vectors.
    """
    registered_encoder(connection, encoder_name)
    expert_domain(connection, encoder_name, expert_name)
    found = {side: X for side, X in _trained_on(judged, domain).items() if len(X) >= FEWEST}
    if not found:
        places = ", ".join(repr(collection.name) for collection in judged)
        raise TrainingError(
            f"domain {domain!r} has fewer than {FEWEST} training queries in {places}:"
            f" too few to describe expert {expert_name!r}",
            hint="Name the collections that it was trained on.",
        )
    with translated():
        connection.execute(
            "delete from pgembed.expert_domain where encoder = %s and expert = %s",
            (encoder_name, expert_name),
        )
    for side, X in found.items():
        store_domain(connection, encoder_name, expert_name, side, X, size=SAMPLE)
    return tuple(found)


def recommend_experts(
    connection: Connection,
    collection: str,
    *,
    sample: int = SAMPLE,
    side: Side | None = None,
    seed: int = 0,
) -> Recommendation:
    """Rank the active experts of a collection's encoder by how near their domain is to it.

    Experts work on queries, so queries say more; but a new table has none. It is compared by its
    judged queries where 30 of them are embedded, and by its chunks otherwise.

    Args:
        connection: the caller's.
        collection: the table.
        sample: vectors that are compared, from 10 to 2000.
        side: ``query`` or ``document`` to say which.
        seed: of the choice of the sample and of the intervals.

    Raises:
        NotFoundError: no such collection.
        InputError: the collection has too few vectors of that side, or sample is out of range.
    """
    if not FEWEST <= sample <= MOST:
        raise InputError(
            f"sample is {sample}; a recommendation takes at least {FEWEST} vectors, and at most"
            f" {MOST}",
            hint="More than some hundred change little.",
        )
    encoder = search_target(connection, collection).collection.encoder
    side, X = _sampled(connection, collection, sample, side, seed)
    domains, undescribed = described(connection, encoder, side)
    middle = unit(X.mean(axis=0))
    fits = []
    for domain in domains:
        found = discrepancy(X, domain.reduced, seed=seed)
        fits.append(
            Fit(
                domain.expert,
                domain.state,
                found.value,
                found.low,
                found.high,
                cosine=float(middle @ domain.centroid),
                out_of_domain=found.low > domain.quantile,
            )
        )
    fits.sort(key=lambda fit: (fit.mmd, -fit.cosine, fit.expert))
    return Recommendation(collection, side, len(X), tuple(fits), undescribed)


def _trained_on(judged: Sequence[JudgedCollection], domain: str | None) -> dict[Side, Points]:
    queries: list[Vectors] = []
    documents: list[Vectors] = []
    for collection in judged:
        relevant: set[int] = set()
        for each in collection.domains:
            if domain in (None, each):
                split = collection.split(each, "train")
                queries.append(split.vectors)
                relevant.update(number for grades in split.relevant for number in grades)
        of_relevant = np.isin(collection.corpus.documents, sorted(relevant))
        documents.append(collection.corpus.vectors[of_relevant])
    sides: dict[Side, list[Vectors]] = {"query": queries, "document": documents}
    return {
        side: np.unique(np.concatenate(parts).astype(np.float64), axis=0)
        for side, parts in sides.items()
        if parts
    }


def _sampled(
    connection: Connection, collection: str, sample: int, side: Side | None, seed: int
) -> tuple[Side, Points]:
    if side in (None, "query"):
        queries = _vectors(connection, "sample_judged_queries", collection, sample, seed)
        if len(queries) >= (FEWEST if side else ENOUGH_QUERIES):
            return "query", queries
        if side:
            raise InputError(
                f"collection {collection!r} has {len(queries)} judged queries that are embedded;"
                f" a comparison takes {FEWEST}",
                hint="Compare its documents: --side document",
            )
    chunks = _vectors(connection, "sample_chunks", collection, sample, seed)
    if len(chunks) < FEWEST:
        raise InputError(
            f"collection {collection!r} has {len(chunks)} chunks; a comparison takes {FEWEST}",
            hint="Embed its rows first: pgembed sync",
        )
    return "document", chunks


def _vectors(
    connection: Connection, function: str, collection: str, sample: int, seed: int
) -> Points:
    statements = {
        "sample_chunks": "select pgembed.vector_bytes(v) from"
        " pgembed.sample_chunks(%s, %s, %s) as v",
        "sample_judged_queries": "select pgembed.vector_bytes(v) from"
        " pgembed.sample_judged_queries(%s, %s, %s) as v",
    }
    with translated():
        rows = rows_of(connection, statements[function], (collection, sample, seed), binary=True)
    return np.asarray([vector_of(data) for (data,) in rows])

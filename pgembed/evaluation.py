"""Measure search on judged queries, through the same SQL that answers users."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgembed.arm_router import Weighting
from pgembed.database import Connection, rows_of, translated
from pgembed.errors import InputError
from pgembed.heads import BASE
from pgembed.judgments import JudgedCollection, JudgedQueries
from pgembed.measuring import DEPTH, METRICS, PRIMARY, measure, measured_by
from pgembed.model import Mode, Vectors
from pgembed.router import Router
from pgembed.system_scores import SystemScores, dataset_oracle, instance_oracle, seed_families

__all__ = ["Evaluation", "SystemScores", "evaluate", "evaluate_all", "judged_domains"]

Progress = Callable[[int], None]

NamedProgress = Callable[[str, int, int], None]
"""Called with what is measured, queries done, and queries in all."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Every way to search on the same queries, and what knowing better would give."""

    split: str
    systems: Sequence[SystemScores]
    """Base first."""
    measured_by: str
    """What computed the metrics."""
    dataset_oracle: SystemScores | None = None
    """The arm that was best on dev, domain by domain; None where it was not asked for, or there
    are no experts or no dev queries."""
    instance_oracle: SystemScores | None = None
    """The best arm of each query."""
    seed_oracles: Mapping[str, SystemScores] = field(default_factory=dict)
    """The same over the versions ``NAME@1``, ``NAME@2``, ... of an expert, by NAME."""
    without_dev: Sequence[str] = ()
    """Domains without dev queries, for which the dataset oracle takes base."""


def evaluate(
    connection: Connection,
    judged: Sequence[JudgedCollection],
    router: Router,
    mode: Mode,
    *,
    split: str = "test",
    on_progress: Progress | None = None,
) -> SystemScores:
    """Metrics of one mode on the judged queries of a split, searched one by one in the database.

    A search asks for 100 rows, which recall@100 needs; the other metrics look at the first ten.

    Args:
        connection: the caller's.
        judged: collections with their judgments, of the router's encoder.
        router: as ``load_router`` gives it.
        mode: ``soft``, ``hard``, ``base``, or an expert's name.
        split: ``train``, ``dev`` or ``test``.
        on_progress: called with the number of queries done since the last call.

    Returns:
        Scores by domain; domains of one name in several collections have the collection's before.

    Raises:
        InputError: no query of this split is judged.
        NotFoundError: there is no expert of this name.
    """
    scores: dict[str, dict[str, NDArray[np.float64]]] = {metric: {} for metric in METRICS}
    arms: dict[str, dict[str, float]] = {}
    for domain, collection, queries in judged_domains(judged, split):
        vectors = _query_vectors(router, queries, mode)
        for metric, values in _measured(
            connection, collection, queries, vectors, on_progress
        ).items():
            scores[metric][domain] = values
        arms[domain] = _heaviest(_weights(router, queries, mode))
    if not arms:
        raise InputError(f"there are no judged queries of split {split!r}")
    return SystemScores(mode, scores.pop(PRIMARY), scores, arms)


def evaluate_all(
    connection: Connection,
    judged: Sequence[JudgedCollection],
    router: Router,
    modes: Sequence[Mode] | None = None,
    *,
    split: str = "test",
    metric: str = PRIMARY,
    on_progress: NamedProgress | None = None,
) -> Evaluation:
    """Measure base and other ways to search, and the oracles over base and experts.

    The dataset oracle chooses on dev, so the arms are searched with on dev, too.

    Args:
        connection: the caller's.
        judged: collections with their judgments, of the router's encoder.
        router: as ``load_router`` gives it.
        modes: what to measure beside base; None for every active expert, hard and soft, and for
            the oracles, which need them all.
        split: what is reported.
        metric: what the oracles choose by.
        on_progress: told how far it is.

    Raises:
        InputError: no query of this split is judged.
        NotFoundError: there is no expert of a mode's name.
    """
    experts = sorted(router.experts)
    wanted = dict.fromkeys([BASE, *([*experts, "hard", "soft"] if modes is None else modes)])

    def measured(mode: Mode, on: str) -> SystemScores:
        progress = _counting(judged, on, mode if on == split else f"{mode} on {on}", on_progress)
        return evaluate(connection, judged, router, mode, split=on, on_progress=progress)

    systems = [measured(mode, split) for mode in wanted]
    if modes is not None or not experts:
        return Evaluation(split, systems, measured_by())
    families = seed_families(experts)
    spare = {each for versions in families.values() for each in versions[1:]}
    arms = [each for each in (BASE, *experts) if each not in spare]
    on_arms = [each for each in systems if each.name in arms]
    decided = {domain for domain, _, _ in judged_domains(judged, "dev")}
    dev = [each if split == "dev" else measured(each.name, "dev") for each in on_arms if decided]
    return Evaluation(
        split,
        systems,
        measured_by(),
        dataset_oracle(dev, on_arms, metric) if dev else None,
        instance_oracle(systems, arms, metric),
        {
            name: instance_oracle(systems, versions, metric, name=f"seed oracle of {name}")
            for name, versions in families.items()
        },
        [domain for domain in systems[0].by_domain if domain not in decided],
    )


def judged_domains(
    judged: Sequence[JudgedCollection], split: str
) -> Iterator[tuple[str, JudgedCollection, JudgedQueries]]:
    """The domains with queries of a split: how they are called, their collection and queries."""
    shared = Counter(domain for collection in judged for domain in collection.domains)
    for collection in judged:
        for domain in collection.domains:
            queries = collection.split(domain, split)
            if len(queries):
                name = domain or collection.name
                name = f"{collection.name}/{domain}" if domain and shared[domain] > 1 else name
                yield name, collection, queries


def _query_vectors(router: Router, queries: JudgedQueries, mode: Mode) -> Vectors:
    return router.query_vectors(queries.vectors, mode, queries.texts)


def _weights(router: Router, queries: JudgedQueries, mode: Mode) -> Weighting:
    weighting: Weighting = router.weights(queries.vectors, mode)
    return weighting


def _heaviest(weighting: Weighting) -> dict[str, float]:
    """Share of the queries whose heaviest arm is each; of equal arms the first by name."""
    arms, weights = weighting
    numbers = np.argmax(weights, axis=1)
    shares = np.bincount(numbers, minlength=len(arms)) / len(numbers)
    return {arm: float(share) for arm, share in zip(arms, shares, strict=True) if share}


def _measured(
    connection: Connection,
    judged: JudgedCollection,
    queries: JudgedQueries,
    vectors: Vectors,
    on_progress: Progress | None,
) -> dict[str, NDArray[np.float64]]:
    numbers = {key: number for number, key in enumerate(judged.keys)}
    rankings = []
    for vector in vectors:
        with translated():
            hits = rows_of(
                connection,
                "select key from pgembed.search(%s, pgembed.as_vector(%b::real[]), %s)"
                " order by rank",
                (judged.name, vector.tolist(), DEPTH),
            )
        # A row that was embedded since the judgments were read has no number.
        rankings.append([numbers.get(key, -1 - rank) for rank, (key,) in enumerate(hits)])
        if on_progress:
            on_progress(1)
    return measure(rankings, queries.relevant)


def _counting(
    judged: Sequence[JudgedCollection], split: str, label: str, report: NamedProgress | None
) -> Progress | None:
    if report is None:
        return None
    total = sum(len(queries) for _, _, queries in judged_domains(judged, split))
    state: dict[str, Any] = {"done": 0}

    def advance(count: int) -> None:
        state["done"] += count
        report(label, state["done"], total)

    return advance

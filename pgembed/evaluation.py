"""Measure search on judged queries, through the same SQL that answers users."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgembed.bootstrap import Interval, paired_bootstrap
from pgembed.database import Connection, rows_of, translated
from pgembed.errors import InputError
from pgembed.judgments import JudgedCollection, JudgedQueries
from pgembed.metrics import ndcg_at_k
from pgembed.model import Mode, Vectors
from pgembed.routing import Router

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class SystemScores:
    """nDCG@10 of one way to search, for each domain's queries."""

    name: str
    by_domain: Mapping[str, NDArray[np.float64]]

    @property
    def macro(self) -> float:
        """Mean over domains of the mean over queries."""
        return float(np.mean([scores.mean() for scores in self.by_domain.values()]))

    def gain_over(self, other: SystemScores) -> Interval:
        """Macro gain over another system with a 95 % paired bootstrap interval."""
        if list(self.by_domain) != list(other.by_domain):
            raise InputError(f"{self.name} and {other.name} were measured on different domains")
        strata = np.repeat(
            np.arange(len(self.by_domain)), [len(scores) for scores in self.by_domain.values()]
        )
        return paired_bootstrap(
            np.concatenate(list(other.by_domain.values())),
            np.concatenate(list(self.by_domain.values())),
            strata=strata,
        )


def evaluate(
    connection: Connection,
    judged: Sequence[JudgedCollection],
    router: Router,
    mode: Mode,
    *,
    split: str = "test",
    on_progress: Progress | None = None,
) -> SystemScores:
    """nDCG@10 of one mode on the judged queries of a split, searched one by one in the database.

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
    """
    by_domain: dict[str, NDArray[np.float64]] = {}
    shared = Counter(domain for collection in judged for domain in collection.domains)
    for collection in judged:
        for domain in collection.domains:
            queries = collection.split(domain, split)
            if len(queries):
                vectors = router.query_vectors(queries.vectors, mode)
                name = domain or collection.name
                name = f"{collection.name}/{domain}" if domain and shared[domain] > 1 else name
                by_domain[name] = _scores(connection, collection, queries, vectors, on_progress)
    if not by_domain:
        raise InputError(f"there are no judged queries of split {split!r}")
    return SystemScores(mode, by_domain)


def _scores(
    connection: Connection,
    judged: JudgedCollection,
    queries: JudgedQueries,
    vectors: Vectors,
    on_progress: Progress | None,
    k: int = 10,
) -> NDArray[np.float64]:
    numbers = {key: number for number, key in enumerate(judged.keys)}
    scores = np.zeros(len(queries))
    for row, (vector, relevant) in enumerate(zip(vectors, queries.relevant, strict=True)):
        with translated():
            hits = rows_of(
                connection,
                "select key from pgembed.search(%s, pgembed.as_vector(%b::real[]), %s)"
                " order by rank",
                (judged.name, vector.tolist(), k),
            )
        # A row that was embedded since the judgments were read has no number.
        grades = [relevant.get(numbers.get(key, -1), 0) for (key,) in hits]
        scores[row] = ndcg_at_k(grades or [0], list(relevant.values()), k)
        if on_progress:
            on_progress(1)
    return scores

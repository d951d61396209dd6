"""The metrics that ``evaluate`` reports, of many rankings at once: trec_eval's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from numpy.typing import NDArray

from pgembed.errors import InputError
from pgembed.metrics import ndcg_at_k, recall_at_k, reciprocal_rank

METRICS = ("ndcg@10", "recall@100", "mrr@10", "success@1")
"""What is measured; the first is what systems are compared by unless another is asked for."""

PRIMARY = METRICS[0]

DEPTH = 100
"""Ranks that the metrics need."""

LARGEST_TREC_GRADE = 1000
"""trec_eval keeps an array as long as the largest grade."""

Rankings = Sequence[Sequence[int]]
"""Document numbers of each query, best first; what is not in the judgments has no grade."""

Relevant = Sequence[Mapping[int, int]]
"""Grades above 0 by document number, for each query."""

Scores = dict[str, NDArray[np.float64]]
"""By metric: float64, shape (queries,)."""


def measure(rankings: Rankings, relevant: Relevant) -> Scores:
    """Every metric of each ranking, computed by trec_eval where ``pytrec_eval`` is installed.

    Without it, or with grades above ``LARGEST_TREC_GRADE``, by ``pgembed.metrics``, which agrees
    to 1e-6. MRR counts the first ten ranks.
    """
    largest = max((grade for judged in relevant for grade in judged.values()), default=0)
    if trec_eval_version() is None or largest > LARGEST_TREC_GRADE:
        return measure_here(rankings, relevant)
    return measure_by_trec_eval(rankings, relevant)


def measure_here(rankings: Rankings, relevant: Relevant) -> Scores:
    """The metrics by ``pgembed.metrics``."""
    rows = [_here(*each) for each in zip(rankings, relevant, strict=True)]
    return {
        name: np.asarray([row[number] for row in rows], dtype=np.float64)
        for number, name in enumerate(METRICS)
    }


def measure_by_trec_eval(rankings: Rankings, relevant: Relevant) -> Scores:
    """The metrics by trec_eval.

    Ranks are given as scores, so that trec_eval does not order ties anew: the database has.
    """
    import pytrec_eval

    judged = {
        str(query): {str(document): grade for document, grade in grades.items()}
        for query, grades in enumerate(relevant)
    }
    found: dict[str, dict[str, float]] = {}
    for depth, measures in (
        (DEPTH, {"ndcg_cut.10", "recall.100", "success.1"}),
        (10, {"recip_rank"}),
    ):
        run = {
            str(query): {str(each): float(-rank) for rank, each in enumerate(ranking[:depth])}
            for query, ranking in enumerate(rankings)
        }
        for query, values in pytrec_eval.RelevanceEvaluator(judged, measures).evaluate(run).items():
            found.setdefault(query, {}).update(values)
    names = dict(
        zip(METRICS, ("ndcg_cut_10", "recall_100", "recip_rank", "success_1"), strict=True)
    )
    return {
        name: np.asarray(
            [found[str(query)][theirs] for query in range(len(rankings))], dtype=np.float64
        )
        for name, theirs in names.items()
    }


def trec_eval_version() -> str | None:
    """Version of the package that brings ``pytrec_eval``; None where it is not installed."""
    for package in ("pytrec-eval-terrier", "pytrec-eval"):
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
    return None


def measured_by() -> str:
    """Who computes the metrics here, for reports."""
    theirs = trec_eval_version()
    return f"trec_eval ({theirs})" if theirs else "pgembed.metrics"


def check_metric(name: str) -> None:
    """Raise InputError for a metric that is not measured."""
    if name not in METRICS:
        raise InputError(f"there is no metric {name!r}", hint=f"Metrics are {', '.join(METRICS)}.")


def _here(ranking: Sequence[int], relevant: Mapping[int, int]) -> tuple[float, ...]:
    grades = [relevant.get(document, 0) for document in ranking] or [0]
    ideal = list(relevant.values()) or [0]
    return (
        ndcg_at_k(grades, ideal, 10),
        recall_at_k(grades, ideal, 100),
        reciprocal_rank(grades[:10]),
        float(grades[0] > 0),
    )

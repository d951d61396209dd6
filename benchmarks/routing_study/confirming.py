"""The main systems on test queries that no earlier run has seen.

The first run of the study showed figures of its test queries, and what was changed after it may
have been chosen by them without anybody noticing. Sets with more test queries than a run takes
have some left for once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.data import read_set, sampled
from benchmarks.routing_study.experts import Workshop
from benchmarks.routing_study.measuring import Scores
from benchmarks.routing_study.sets import Setting, Size
from benchmarks.routing_study.systems import System, World, best_on_dev, pooled
from benchmarks.routing_study.verdicts import (
    BASE,
    MULTITASK,
    ORACLE,
    OURS,
    PAPER,
    WIDE,
    Figures,
    plain,
)
from pgembed import heads
from pgembed.encoders import open_encoder
from pgembed.judgments import JudgedCollection, JudgedQueries
from pgembed.metrics import ndcg_of
from pgembed.soft_fitting import PooledProblem

FEWEST = 100
"""Queries that a set must have left."""

WITHOUT_FALLBACK = "S16 utility, soft"


def unseen(judged: JudgedCollection, size: Size) -> dict[str, JudgedQueries]:
    """Test queries of each set beyond those of the study, as many again at most."""
    numbers = {key: number for number, key in enumerate(judged.keys)}
    encoder = open_encoder("minilm")
    found = {}
    for name in size.sets:
        key = f'["{name}", {{}}]'
        judgments = sampled(read_set(name), key, train=1, dev=1, test=2 * size.test)
        relevant: dict[str, dict[int, int]] = {}
        for each in judgments:
            if each.split == "test":
                grades = relevant.setdefault(each.query, {})
                if each.grade > 0:
                    grades[numbers[each.key]] = each.grade
        left = {text: grades for text, grades in list(relevant.items())[size.test :] if grades}
        if len(left) >= FEWEST:
            texts = tuple(left)
            found[name] = JudgedQueries(texts, encoder.encode_query(texts), tuple(left.values()))
    return found


def confirmed(
    workshop: Workshop,
    size: Size,
    setting: Setting,
    worlds: Sequence[tuple[World, Mapping[str, System]]],
) -> dict[str, Any]:
    """nDCG@10 of the main systems on unseen queries, with the gains that were registered."""
    queries = unseen(workshop.judged, size)
    scores = [_scores(queries, setting, world, systems) for world, systems in worlds]
    merged = {
        system: {n: np.mean([each[system][n] for each in scores], axis=0) for n in queries}
        for system in scores[0]
    }
    wide = workshop.general(0, wide=True).expert
    merged[WIDE] = {
        n: ndcg_of(wide.apply(q.vectors), workshop.judged.corpus, q.relevant)
        for n, q in queries.items()
    }
    domains = tuple(name for name in size.domains if name in queries)
    away = tuple(name for name in size.without_expert if name in queries)
    left = Size(size.name, domains, away, size.train, size.dev, size.test, size.seeds)
    figures = Figures(left, merged, {})
    return {
        "queries": {name: len(each) for name, each in queries.items()},
        "macro": {
            system: {
                "domains": round(figures.macro(system), 2),
                **{name: round(figures.macro(system, [name]), 2) for name in queries},
            }
            for system in merged
        },
        "gains": {
            f"{OURS} - {other}": plain(figures.gain(OURS, other))
            for other in (BASE, MULTITASK, WIDE, PAPER, WITHOUT_FALLBACK, ORACLE)
        },
    }


def _scores(
    queries: Mapping[str, JudgedQueries],
    setting: Setting,
    world: World,
    systems: Mapping[str, System],
) -> dict[str, Scores]:
    chosen = (BASE, MULTITASK, PAPER, "S13 LDA", "S13 logistic", WITHOUT_FALLBACK, OURS)
    problems = {name: pooled(each, name, setting, world.arms) for name, each in queries.items()}
    return with_oracle(world, {name: systems[name] for name in chosen}, problems)


def with_oracle(
    world: World, systems: Mapping[str, System], problems: Mapping[str, PooledProblem]
) -> dict[str, Scores]:
    """nDCG@10 of each query under systems, and under the arm of its domain that is best on dev."""
    oracle = best_on_dev(world)
    found: dict[str, Scores] = {name: {} for name in (*systems, ORACLE)}
    for name, each in problems.items():
        best = np.zeros((len(each.problem.relevant), len(each.arms)))
        best[:, each.arms.index(oracle.get(name, heads.BASE))] = 1
        weights = [system.weights(each) for system in systems.values()]
        for system, row in zip(found, each.ndcg(np.stack([*weights, best])), strict=True):
            found[system][name] = row
    return found

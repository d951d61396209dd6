"""nDCG@10 of every system on every set, and the other metrics of the main ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.routing_study.experts import GENERAL, Workshop
from benchmarks.routing_study.sets import Setting, Size
from benchmarks.routing_study.systems import (
    System,
    World,
    best_on_dev,
    fitted_systems,
    pooled,
    single,
)
from pgembed.arm_router import mix
from pgembed.heads import BASE
from pgembed.judgments import JudgedQueries
from pgembed.measuring import measure_here
from pgembed.metrics import ndcg_of, top_documents
from pgembed.soft_fitting import PooledProblem

Scores = dict[str, NDArray[np.float64]]
"""nDCG@10 of each test query by set."""

MAIN = ("S1 base", "S2 multi-task", "S9 RouterRetriever", "S17 utility, soft, fallback")
"""Systems with every metric."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One seed in one setting."""

    scores: Mapping[str, Scores]
    """By system."""
    metrics: Mapping[str, Mapping[str, Scores]]
    """By system and metric, of the main ones."""
    about: Mapping[str, str]
    """Fitted parameters by system."""
    oracle: Mapping[str, str]
    """Arm of each domain that is best on dev."""
    accuracy: Mapping[str, Mapping[str, float]]
    """Share of each domain's queries whose heaviest expert is the domain's own, by system."""
    heaviest: Mapping[str, Mapping[str, float]]
    """Of the main routed system: share of each domain's queries by heaviest arm."""


SUBSETS = 20
"""Random choices of arms."""


def systems_of(world: World) -> dict[str, System]:
    """All systems that are mixtures of arms."""
    found = {"S1 base": single(BASE), "S2 multi-task": single(GENERAL)}
    found |= {f"S4 expert {name}": single(name) for name in world.arms.experts}
    return found | fitted_systems(world)


def measure_all(
    workshop: Workshop,
    world: World,
    systems: Mapping[str, System],
    size: Size,
    setting: Setting,
) -> Measured:
    """Every system on the test queries of every set."""
    tests = {name: workshop.judged.split(name, "test") for name in size.sets}
    problems = {name: pooled(queries, name, setting, world.arms) for name, queries in tests.items()}
    oracle = best_on_dev(world)
    scores: dict[str, Scores] = {name: {} for name in systems}
    arms: dict[str, NDArray[np.float64]] = {}
    for name, each in problems.items():
        weights = np.stack([system.weights(each) for system in systems.values()])
        for row, system in zip(each.ndcg(weights), systems, strict=True):
            scores[system][name] = row
        arms[name] = alone(each)
    wide = workshop.general(0, wide=True).expert
    scores["S2 multi-task, wide"] = {
        name: ndcg_of(wide.apply(q.vectors), setting.corpora[name][0], setting.relevant(name, q))
        for name, q in tests.items()
    }
    names = world.arms.names
    domains = {name: oracle.get(name, BASE) for name in size.sets}
    scores["S5 DatasetOracle"] = {n: arms[n][names.index(domains[n])] for n in size.sets}
    scores["S6 InstanceOracle"] = {n: arms[n].max(axis=0) for n in size.sets}
    experts = [names.index(name) for name in world.arms.experts]
    scores["S7 random expert"] = {n: arms[n][experts].mean(axis=0) for n in size.sets}
    return Measured(
        scores,
        _metrics(systems, problems, tests, setting),
        {name: system.about for name, system in systems.items()},
        oracle,
        {
            name: _own_share(system, problems, size)
            for name, system in systems.items()
            if name.startswith(("S8", "S9", "S1"))
        },
        _heaviest(systems["S17 utility, soft, fallback"], problems),
    )


def alone(each: PooledProblem) -> NDArray[np.float64]:
    """nDCG@10 of each arm by itself: (arms, n)."""
    count = len(each.problem.relevant)
    return each.ndcg(np.repeat(np.eye(len(each.arms))[:, None, :], count, axis=1))


def _metrics(
    systems: Mapping[str, System],
    problems: Mapping[str, PooledProblem],
    tests: Mapping[str, JudgedQueries],
    setting: Setting,
) -> dict[str, dict[str, Scores]]:
    found: dict[str, dict[str, Scores]] = {}
    for system in MAIN:
        for name, each in problems.items():
            Z = each.problem.vectors[BASE]
            weighting = systems[system].router.weights(Z, systems[system].mode)
            vectors = mix(Z, weighting, each.problem.vectors)
            corpus = setting.corpora[name][0]
            ranked = top_documents(vectors, corpus, 100)
            rankings = [[int(d) for d in row] for row in ranked]
            measured = measure_here(rankings, setting.relevant(name, tests[name]))
            for metric, values in measured.items():
                found.setdefault(system, {}).setdefault(metric, {})[name] = np.asarray(values)
    return found


def _own_share(
    system: System, problems: Mapping[str, PooledProblem], size: Size
) -> dict[str, float]:
    """Share of a domain's queries that are sent to the domain's own expert."""
    shares = {}
    for name in size.domains:
        each = problems[name]
        chosen = np.asarray(each.arms)[system.weights(each).argmax(axis=1)]
        shares[name] = float((chosen == name).mean())
    return shares


def _heaviest(system: System, problems: Mapping[str, PooledProblem]) -> dict[str, dict[str, float]]:
    shares: dict[str, dict[str, float]] = {}
    for name, each in problems.items():
        chosen = np.asarray(each.arms)[system.weights(each).argmax(axis=1)]
        arms, counts = np.unique(chosen, return_counts=True)
        shares[name] = {str(a): float(c / len(chosen)) for a, c in zip(arms, counts, strict=True)}
    return shares


def seed_oracle(workshop: Workshop, size: Size, setting: Setting, seeds: Sequence[int]) -> Scores:
    """The best of several multi-task experts that differ in their seed alone, query by query."""
    experts = [workshop.general(seed).expert for seed in seeds]
    found = {}
    for name in size.sets:
        queries = workshop.judged.split(name, "test")
        corpus, relevant = setting.corpora[name][0], setting.relevant(name, queries)
        each = [ndcg_of(expert.apply(queries.vectors), corpus, relevant) for expert in experts]
        found[name] = np.max(each, axis=0)
    return found


def subset_oracle(problems: Mapping[str, PooledProblem], size: Size, count: int) -> float:
    """Macro over the domains of the best of so many arms, query by query, over random choices.

    As many arms as there are seeds in ``seed_oracle``: the best of more is better by chance.
    """
    by_arm = {name: alone(problems[name]) for name in size.domains}
    arms = len(next(iter(by_arm.values())))
    means = []
    for draw in range(SUBSETS):
        chosen = np.random.default_rng(draw).choice(arms, min(count, arms), replace=False)
        means.append(np.mean([each[chosen].max(axis=0).mean() for each in by_arm.values()]))
    return 100 * float(np.mean(means))


def split_judgment_oracle(
    workshop: Workshop, world: World, setting: Setting
) -> dict[str, dict[str, float]]:
    """Choose the arm by half of a query's relevant documents, score it on the other half.

    For queries with two relevant documents or more; the base's figure on the same halves is what
    to compare with, and the biased oracle chooses and scores on the same half.
    """
    found = {}
    for name in world.size.domains:
        queries = workshop.judged.split(name, "test")
        relevant = setting.relevant(name, queries)
        rows = [row for row, grades in enumerate(relevant) if len(grades) > 1]
        if len(rows) < 30:
            continue
        halves = [
            [dict(sorted(relevant[row].items())[start::2]) for row in rows] for start in (0, 1)
        ]
        vectors = world.arms.vectors(queries.take(rows))
        corpus = setting.corpora[name][0]
        first, second = (
            np.stack([ndcg_of(vectors[arm], corpus, half) for arm in world.arms.names])
            for half in halves
        )
        chosen = first.argmax(axis=0)
        base = world.arms.names.index(BASE)
        found[name] = {
            "queries": len(rows),
            "base": float(second[base].mean()),
            "chosen on the other half": float(second[chosen, np.arange(len(rows))].mean()),
            "chosen on the same half": float(second.max(axis=0).mean()),
        }
    return found

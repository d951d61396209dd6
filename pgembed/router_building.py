"""Build the router of an encoder from judged queries, pass it through its gate, and install it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from psycopg.types.json import Jsonb

from pgembed.bootstrap import Interval, paired_bootstrap
from pgembed.database import Connection, rows_of, translated
from pgembed.errors import GateError, TrainingError
from pgembed.experts import load_experts
from pgembed.judgments import JudgedCollection, JudgedQueries, one_encoder, seeded_share
from pgembed.linear_expert import LinearExpert
from pgembed.metrics import ndcg_of
from pgembed.model import Vectors
from pgembed.pilot_router import BASE, Pilot, PilotRouter, mix
from pgembed.pilots import build_pilots
from pgembed.soft_fitting import RoutingProblem, SoftFit, fit_soft

ROUTER_QUERIES = 1000
"""Training queries of a domain that its pilots are built from, at most."""

Labels = Literal["instance", "domain"]


@dataclass(frozen=True, slots=True)
class BuiltRouter:
    """A router that was built and installed."""

    version: int
    pilots: Sequence[Pilot]
    fit: SoftFit
    gain: Interval
    """Of soft routing over base on dev: macro nDCG@10."""


def build_router(
    connection: Connection, judged: Sequence[JudgedCollection], *, labels: Labels = "instance"
) -> BuiltRouter:
    """Build pilots from training queries, fit soft routing on dev, and install both.

    Args:
        connection: the caller's; nothing is committed here.
        judged: collections of one encoder with judged queries.
        labels: ``instance``, the paper: each training query votes for its best expert; or
            ``domain``: the arm that is best on a domain's training queries gets all of them.

    Raises:
        TrainingError: there are no judged queries to build on.
        GateError: soft routing is not significantly better than base on dev.
    """
    encoder = one_encoder(judged)
    experts = load_experts(connection, encoder)
    arms = (BASE, *sorted(experts))
    scored = {
        domain: (queries.vectors, performance(collection, queries, experts))
        for collection, domain, queries in _domains(judged, "train", ROUTER_QUERIES)
    }
    problems = [
        RoutingProblem(domain, arm_vectors(queries.vectors, experts), queries.relevant, c.corpus)
        for c, domain, queries in _domains(judged, "dev", ROUTER_QUERIES)
    ]
    if not scored or not problems:
        raise TrainingError("a router needs judged queries in splits train and dev")
    pilots = build_pilots(scored, arms, labels=labels)
    fit = fit_soft(pilots, problems)
    gain = _routed_gain(PilotRouter(pilots, fit.parameters), problems)
    if gain.low <= 0:
        raise GateError(
            f"soft routing changes dev nDCG@10 by {gain.mean:+.3f} (95 % interval {gain.low:+.3f}"
            f" to {gain.high:+.3f}): not surely better than base, so the router is refused",
            hint="What was installed before still routes. More judgments, or experts that help"
            " more, may change that.",
        )
    version = _install(connection, encoder, pilots, fit, labels)
    return BuiltRouter(version, pilots, fit, gain)


def _routed_gain(router: PilotRouter, problems: Sequence[RoutingProblem]) -> Interval:
    """Macro gain in dev nDCG@10 of soft routing over base, each query ranked exactly."""
    base, routed = [], []
    for problem in problems:
        Z = problem.vectors[BASE]
        mixed = mix(Z, router.weights(Z, "soft"), problem.vectors)
        base.append(ndcg_of(Z, problem.corpus, problem.relevant))
        routed.append(ndcg_of(mixed, problem.corpus, problem.relevant))
    strata = np.repeat(np.arange(len(problems)), [len(scores) for scores in base])
    return paired_bootstrap(np.concatenate(base), np.concatenate(routed), strata=strata)


def arm_vectors(Z: Vectors, experts: Mapping[str, LinearExpert]) -> dict[str, Vectors]:
    """Query vectors of every arm, base included: float32, shape (n, dimensions) each."""
    return {BASE: Z, **{name: expert.apply(Z) for name, expert in experts.items()}}


def performance(
    judged: JudgedCollection, queries: JudgedQueries, experts: Mapping[str, LinearExpert]
) -> NDArray[np.float64]:
    """nDCG@10 of each query under base and under each expert by name: shape (n, 1 + experts)."""
    arms = arm_vectors(queries.vectors, experts)
    names = (BASE, *sorted(experts))
    return np.column_stack([ndcg_of(arms[name], judged.corpus, queries.relevant) for name in names])


def _install(
    connection: Connection, encoder: str, pilots: Sequence[Pilot], fit: SoftFit, labels: Labels
) -> int:
    parameters = {
        "temperature": fit.parameters.temperature,
        "standing": {n: w for n, w in fit.parameters.standing.items() if w > 0},
        "labels": labels,
    }
    best = max(fit.table, key=lambda setting: setting.macro)
    metrics = {"dev_ndcg_at_10": {"macro": best.macro, **best.ndcg}}
    with translated(), connection.transaction(), connection.cursor() as cursor:
        ((version,),) = rows_of(
            connection,
            "select pgembed.set_router(%s, 'pilot', %s, %s)",
            (encoder, Jsonb(parameters), Jsonb(metrics)),
        )
        cursor.executemany(
            "insert into pgembed.pilot (encoder, expert, domain, n, centroid)"
            " values (%s, %s, %s, %s, pgembed.as_vector(%b::real[]))",
            [(encoder, p.expert, p.domain, p.n, p.centroid.tolist()) for p in pilots],
        )
    return int(version)


def _domains(
    judged: Sequence[JudgedCollection], split: str, at_most: int
) -> list[tuple[JudgedCollection, str, JudgedQueries]]:
    """Each domain's queries of a split; where there are many, the first by a seeded hash."""
    shared = Counter(domain for collection in judged for domain in collection.domains)
    return [
        (
            collection,
            f"{collection.name}/{domain}"
            if domain and shared[domain] > 1
            else domain or collection.name,
            _some(queries, at_most),
        )
        for collection in judged
        for domain in collection.domains
        if len(queries := collection.split(domain, split))
    ]


def _some(queries: JudgedQueries, at_most: int) -> JudgedQueries:
    if len(queries) <= at_most:
        return queries
    rows = sorted(range(len(queries)), key=lambda row: seeded_share(queries.texts[row]))
    return queries.take(sorted(rows[:at_most]))

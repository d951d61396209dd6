"""Train experts on judgments in the database, pass them through the gate, and build the router."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from psycopg.types.json import Jsonb

from pgembed.bootstrap import Interval, paired_bootstrap
from pgembed.contrastive import TrainingProblem
from pgembed.database import Connection, rows_of, translated
from pgembed.descent import LinearSettings
from pgembed.errors import GateError, TrainingError
from pgembed.experts import check_name, load_experts, register_expert
from pgembed.judgments import JudgedCollection, JudgedQueries, seeded_share
from pgembed.linear import GateDecision, TrainedLinear, TrainingStep, gate, train_linear
from pgembed.linear_expert import LinearExpert
from pgembed.metrics import ndcg_of
from pgembed.model import Expert, Vectors
from pgembed.pilot_router import BASE, Pilot, PilotRouter, mix
from pgembed.pilots import build_pilots
from pgembed.registry import registered_encoder
from pgembed.soft_fitting import GENERAL, RoutingProblem, SoftFit, fit_soft

MINED_CHUNKS = 30
"""Nearest chunks of a training query that its hard negatives are drawn from."""

HELD_OUT = 0.15
"""Share of the training queries that choose the training step, so that the gate's dev queries have
chosen nothing: gated on the queries that chose the step, experts pass that do not help on test."""

HELD_OUT_SEED = 2

ROUTER_QUERIES = 1000
"""Training queries of a domain that its pilots are built from, at most."""

Labels = Literal["instance", "domain"]


@dataclass(frozen=True, slots=True)
class TrainedExpert:
    """An expert that was trained, and whether the gate let it in."""

    expert: Expert
    decision: GateDecision
    training: TrainedLinear


@dataclass(frozen=True, slots=True)
class BuiltRouter:
    """A router that was built and installed."""

    version: int
    pilots: Sequence[Pilot]
    fit: SoftFit
    gain: Interval
    """Of soft routing over base on dev: macro nDCG@10."""


def train_expert(
    connection: Connection,
    name: str,
    judged: Sequence[JudgedCollection],
    *,
    domain: str | None = None,
    settings: LinearSettings | None = None,
    on_step: Callable[[TrainingStep], None] | None = None,
) -> TrainedExpert:
    """Train a linear expert on the judgments of a domain, or of all, and register it.

    Documents stay as they are: only the query side is trained, on cached vectors. The expert is
    registered as ``active`` when dev nDCG@10 improves significantly (paired bootstrap), and as
    ``rejected`` otherwise, so that its figures can be looked up.

    Args:
        connection: the caller's; nothing is committed here.
        name: of the expert; an expert of that name is replaced.
        judged: the collections to learn from, all of one encoder.
        domain: of the judgments; None takes every domain that has enough, for a general expert.
        settings: how to train; the defaults when None.
        on_step: called after every step.

    Raises:
        TrainingError: there are no training or no dev queries.
        InputError: the name is empty or that of a mode.
    """
    check_name(name)
    encoder = registered_encoder(connection, _one_encoder(judged))
    learned = [
        (collection, each)
        for collection in judged
        for each in collection.domains
        if domain in (None, each) and len(collection.split(each, "train"))
    ]
    if not learned:
        places = ", ".join(repr(collection.name) for collection in judged)
        raise TrainingError(
            f"there are no training queries of domain {domain!r} in {places}",
            hint="Judgments need split 'train' and rows that are embedded.",
        )
    learned = [each for each in learned if domain is not None or _enough(*each)] or learned
    problems = [training_problem(connection, *each) for each in learned]
    trained = _on_dev(train_linear(problems, settings, on_step=on_step), learned)
    decision = gate(trained)
    state = "active" if decision.accepted else "rejected"
    metrics = _metrics(trained, decision, problems, settings or LinearSettings())
    sources = ", ".join(collection.name for collection in judged)
    register_expert(
        connection,
        encoder,
        name,
        trained.expert,
        state=state,
        domain=domain,
        trained_on=sources,
        metrics=metrics,
    )
    return TrainedExpert(
        Expert(name, encoder.name, "linear", state, domain, metrics), decision, trained
    )


def training_problem(
    connection: Connection, judged: JudgedCollection, domain: str
) -> TrainingProblem:
    """The training queries of a domain, with hard negatives from the collection's own index.

    A seeded 15 % of them are held out to choose the training step.

    Raises:
        TrainingError: the domain has no dev queries, or too few training queries.
    """
    train, chooser = _held_out(judged, domain)
    if not _enough(judged, domain):
        raise TrainingError(
            f"domain {domain!r} of collection {judged.name!r} has"
            f" {len(judged.split(domain, 'train'))} training and"
            f" {len(judged.split(domain, 'dev'))} dev queries: too few",
            hint="Some dozens of each are the least; the gate decides on those of split 'dev'.",
        )
    return TrainingProblem(
        queries=train.vectors,
        positives=train.relevant,
        mined=mine_negatives(connection, judged, train),
        corpus=judged.corpus,
        dev_queries=chooser.vectors,
        dev_relevant=chooser.relevant,
        name=domain,
    )


def _held_out(judged: JudgedCollection, domain: str) -> tuple[JudgedQueries, JudgedQueries]:
    """The training queries of a domain: those that train, and those that choose the step."""
    queries = judged.split(domain, "train")
    # Another seed than that of the dev split: what was left there would never be held out here.
    held_out = np.asarray(
        [seeded_share(t, seed=HELD_OUT_SEED) < HELD_OUT for t in queries.texts], dtype=bool
    )
    return queries.take(np.flatnonzero(~held_out)), queries.take(np.flatnonzero(held_out))


def _enough(judged: JudgedCollection, domain: str) -> bool:
    """Whether a domain has queries to train on, to choose the step, and for the gate."""
    return all(map(len, (*_held_out(judged, domain), judged.split(domain, "dev"))))


def _on_dev(
    trained: TrainedLinear, learned: Sequence[tuple[JudgedCollection, str]]
) -> TrainedLinear:
    """The training with the scores of the dev queries, which chose nothing so far."""
    dev = [(judged, judged.split(domain, "dev")) for judged, domain in learned]
    base = [ndcg_of(queries.vectors, judged.corpus, queries.relevant) for judged, queries in dev]
    expert = [
        ndcg_of(trained.expert.apply(queries.vectors), judged.corpus, queries.relevant)
        for judged, queries in dev
    ]
    return replace(
        trained,
        base_scores=np.concatenate(base),
        expert_scores=np.concatenate(expert),
        strata=np.repeat(np.arange(len(dev)), [len(queries) for _, queries in dev]),
    )


def mine_negatives(
    connection: Connection, judged: JudgedCollection, queries: JudgedQueries
) -> list[list[int]]:
    """Chunk rows near each query by the collection's own index, relevant documents left out."""
    with translated():
        near = rows_of(
            connection,
            "select query_no, key, chunk_no from pgembed.nearest_chunks(%s,"
            " array(select md5(t.text)::uuid from unnest(%s::text[]) with ordinality as t (text, n)"
            " order by t.n), %s)",
            (judged.name, list(queries.texts), MINED_CHUNKS),
            binary=True,
        )
    mined: list[list[int]] = [[] for _ in queries.texts]
    for query_no, key, chunk_no in near:
        row = judged.rows.get((key, chunk_no))
        if (
            row is not None
            and int(judged.corpus.documents[row]) not in queries.relevant[query_no - 1]
        ):
            mined[query_no - 1].append(row)
    return mined


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
    encoder = _one_encoder(judged)
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


def _one_encoder(judged: Sequence[JudgedCollection]) -> str:
    names = sorted({collection.encoder for collection in judged})
    if len(names) != 1:
        raise TrainingError(
            f"the collections have encoders {names}; an expert lives in the space of one"
        )
    return names[0]


def _metrics(
    trained: TrainedLinear,
    decision: GateDecision,
    problems: Sequence[TrainingProblem],
    settings: LinearSettings,
) -> dict[str, Any]:
    gains = trained.expert_scores - trained.base_scores
    return {
        "dev_ndcg_at_10": {
            problem.name: {
                "base": round(float(trained.base_scores[trained.strata == number].mean()), 6),
                "expert": round(float(trained.expert_scores[trained.strata == number].mean()), 6),
                "gain": round(float(gains[trained.strata == number].mean()), 6),
                "queries": int((trained.strata == number).sum()),
                "train_queries": len(problem.positives),
            }
            for number, problem in enumerate(problems)
        },
        "gate": {"accepted": decision.accepted, "reason": decision.reason},
        "curve": [[step, round(ndcg, 6)] for step, ndcg in trained.curve],
        "steps": trained.steps,
        "best_step": trained.best_step,
        "seconds": round(trained.seconds, 2),
        "settings": asdict(settings),
    }


__all__ = [
    "GENERAL",
    "BuiltRouter",
    "TrainedExpert",
    "build_router",
    "mine_negatives",
    "performance",
    "train_expert",
    "training_problem",
]

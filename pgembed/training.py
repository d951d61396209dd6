"""Train experts on judgments in the database, and pass them through the gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from pgembed.contrastive import TrainingProblem
from pgembed.database import Connection, rows_of, translated
from pgembed.descent import LinearSettings
from pgembed.errors import TrainingError
from pgembed.experts import check_name, register_expert
from pgembed.judgments import JudgedCollection, JudgedQueries, one_encoder, seeded_share
from pgembed.linear import GateDecision, TrainedLinear, TrainingStep, gate, train_linear
from pgembed.metrics import ndcg_of
from pgembed.model import Expert
from pgembed.registry import registered_encoder

MINED_CHUNKS = 30
"""Nearest chunks of a training query that its hard negatives are drawn from."""

HELD_OUT = 0.15
"""Share of the training queries that choose the training step, so that the gate's dev queries have
chosen nothing: gated on the queries that chose the step, experts pass that do not help on test."""

HELD_OUT_SEED = 2


@dataclass(frozen=True, slots=True)
class TrainedExpert:
    """An expert that was trained, and whether the gate let it in."""

    expert: Expert
    decision: GateDecision
    training: TrainedLinear


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
        name: of the expert; one of that name is replaced, unless it serves and this one is refused.
        judged: the collections to learn from, all of one encoder.
        domain: of the judgments; None takes every domain that has enough, for a general expert.
        settings: how to train; the defaults when None.
        on_step: called after every step.

    Raises:
        TrainingError: there are no training or no dev queries.
        InputError: the name is empty or that of a mode.
    """
    check_name(name)
    encoder = registered_encoder(connection, one_encoder(judged))
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
        texts=train.texts,
        dev_texts=chooser.texts,
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

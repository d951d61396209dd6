"""Build the router of an encoder from judged queries, pass it through its gate, and install it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pgembed.arm_router import ArmRouter, mix
from pgembed.bootstrap import Interval, paired_bootstrap
from pgembed.database import Connection, translated
from pgembed.errors import GateError, TrainingError
from pgembed.experts import list_experts
from pgembed.heads import (
    BASE,
    ConstantHead,
    LinearHead,
    NeighbourHead,
    PilotHead,
)
from pgembed.judgments import JudgedCollection, JudgedQueries, one_encoder
from pgembed.metrics import ndcg_of
from pgembed.pilots import build_pilots, references_of
from pgembed.router import Router
from pgembed.router_fitting import (
    BuiltRouter,
    Evidence,
    OnStep,
    arm_shares,
    fit_router,
    tell,
)
from pgembed.router_settings import Labels, RouterSettings
from pgembed.router_store import (
    forget_domains,
    install,
    installed_router,
    write_pilots,
    write_references,
    write_utility,
)
from pgembed.routing import load_router
from pgembed.soft_fitting import (
    PooledProblem,
    RoutingProblem,
)
from pgembed.training_data import Part, parts_of

ROUTER_QUERIES = 1000
"""Queries of a domain that every arm answers while a router is built, at most."""

TOLD_QUERIES = 10_000
"""Training queries of a domain that domains are told apart by, at most."""


WHOLE: Mapping[type, str] = {
    LinearHead: "weighs all domains against each other",
    ConstantHead: "gives every query the same experts",
}
"""Why nothing can be added to a router of some heads."""


def build_router(
    connection: Connection,
    judged: Sequence[JudgedCollection],
    *,
    labels: Labels = "instance",
    settings: RouterSettings | None = None,
    on_step: OnStep = None,
) -> BuiltRouter:
    """Build a router from training queries, fit soft routing on dev, and install both.

    Args:
        connection: the caller's; nothing is committed here.
        judged: collections of one encoder with judged queries.
        labels: of the pilots, where ``settings`` are not given.
        settings: what to build; pilots as in the paper by default.
        on_step: called with the name of each step as it begins, one of ``STEPS``.

    Raises:
        TrainingError: there are no judged queries to build on.
        GateError: soft routing is not significantly better than base on dev.
    """
    settings = settings or RouterSettings(labels=labels)
    encoder = one_encoder(judged)
    experts = load_router(connection, encoder)
    tell(on_step, "Query vectors of every expert")
    evidence = _evidence(judged, experts)
    built = fit_router(
        evidence,
        settings,
        _trained_on(connection, encoder, judged),
        on_step=on_step,
    )
    tell(on_step, "Gain over base")
    gain = _routed_gain(built.router, [each.problem for each in evidence.dev])
    if gain.low <= 0:
        raise GateError(
            f"soft routing changes dev nDCG@10 by {gain.mean:+.3f} (95 % interval {gain.low:+.3f}"
            f" to {gain.high:+.3f}): not surely better than base, so the router is refused",
            hint="What was installed before still routes. More judgments, or experts that help"
            " more, may change that.",
        )
    built = replace(built, gain=gain)
    return replace(built, version=install(connection, encoder, settings, built, evidence))


def add_to_router(
    connection: Connection, judged: Sequence[JudgedCollection], expert: str
) -> tuple[str, ...]:
    """Give a new expert its place in the installed router, without touching other domains' rows.

    The new expert's domain must be judged. ``pilot``: the domain's training queries that the new
    expert answers best give it a pilot, and those that others answer best give them one there.
    ``knn`` and ``utility`` by neighbours: the domain's references and the shares of its arms are
    added. What the router had of the domain before is replaced. ``lda`` and ``logistic`` weigh
    all domains against each other: they are built anew. Temperature, standing weights and the
    threshold of the fallback stay.

    Returns:
        The domains that were added.

    Raises:
        TrainingError: no judged domain of the expert, or the kind is built as a whole.
        NotFoundError: no router is installed.
    """
    encoder = one_encoder(judged)
    loaded = load_router(connection, encoder)
    kind, settings = installed_router(connection, encoder)
    domains = {e.domain for e in list_experts(connection, encoder) if e.name == expert}
    parts = [part for part in parts_of(judged) if part.domain in domains and len(part.train)]
    if expert not in loaded.experts or not parts:
        raise TrainingError(
            f"there is no active expert {expert!r} of a domain with judged training queries",
            hint="Train it with --domain, and name the collections that have its judgments.",
        )
    head = loaded.policy.head
    if not isinstance(head, PilotHead | NeighbourHead):
        raise TrainingError(
            f"nothing can be added to a router of kind {kind}: it {WHOLE[type(head)]}",
            hint="Build it again: pgembed router build.",
        )
    evidence = _evidence(judged, loaded, parts)
    with translated(), connection.transaction():
        forget_domains(connection, encoder, [part.label for part in parts])
        if isinstance(head, PilotHead):
            labels: Labels = "domain" if settings.get("labels") == "domain" else "instance"
            pilots = build_pilots(
                evidence.scored(), evidence.arms, labels=labels, k=int(settings.get("pilots", 1))
            )
            write_pilots(connection, encoder, PilotHead(pilots, head.aggregate))
        else:
            utility = arm_shares(evidence, ensemble=kind == "utility")
            write_utility(connection, encoder, evidence, utility)
        if isinstance(head, NeighbourHead) or "fallback" in settings:
            references = {name: references_of(Z) for name, Z in evidence.train.items()}
            write_references(connection, encoder, references)
        connection.execute("select pgembed.touch_router(%s)", (encoder,))
    return tuple(part.label for part in parts)


def performance(
    judged: JudgedCollection, queries: JudgedQueries, router: Router
) -> NDArray[np.float64]:
    """nDCG@10 of each query under base and under each expert by name: shape (n, 1 + experts)."""
    vectors = router.arm_vectors(queries.vectors, queries.texts)
    names = (BASE, *sorted(router.experts))
    columns = [ndcg_of(vectors[name], judged.corpus, queries.relevant) for name in names]
    return np.column_stack(columns)


def _trained_on(
    connection: Connection, encoder: str, judged: Sequence[JudgedCollection]
) -> dict[str, set[str]]:
    """Labels of the domains that each expert was trained on: of one, or of all."""
    parts = parts_of(judged)
    return {
        expert.name: {part.label for part in parts if expert.domain in (None, part.domain)}
        for expert in list_experts(connection, encoder)
        if expert.name != BASE
    }


def _evidence(
    judged: Sequence[JudgedCollection], router: Router, only: Sequence[Part] | None = None
) -> Evidence:
    parts = only or parts_of(judged)
    train = {part.label: part.train.sample(TOLD_QUERIES) for part in parts if len(part.train)}
    scored = {name: queries.sample(ROUTER_QUERIES) for name, queries in train.items()}
    collections = {part.label: part.collection for part in parts}
    dev = [
        PooledProblem(
            RoutingProblem(
                part.label,
                router.arm_vectors(queries.vectors, queries.texts),
                queries.relevant,
                part.collection.corpus,
            )
        )
        for part in parts
        if len(queries := part.dev.sample(ROUTER_QUERIES))
    ]
    if not train or not dev:
        raise TrainingError("a router needs judged queries in splits train and dev")
    return Evidence(
        {name: queries.vectors for name, queries in train.items()},
        lambda: {
            name: (queries.vectors, performance(collections[name], queries, router))
            for name, queries in scored.items()
        },
        dev,
        (BASE, *sorted(router.experts)),
    )


def _routed_gain(router: ArmRouter, problems: Sequence[RoutingProblem]) -> Interval:
    """Macro gain in dev nDCG@10 of soft routing over base, each query ranked exactly."""
    base, routed = [], []
    for problem in problems:
        Z = problem.vectors[BASE]
        mixed = mix(Z, router.weights(Z, "soft"), problem.vectors)
        base.append(ndcg_of(Z, problem.corpus, problem.relevant))
        routed.append(ndcg_of(mixed, problem.corpus, problem.relevant))
    strata = np.repeat(np.arange(len(problems)), [len(scores) for scores in base])
    return paired_bootstrap(np.concatenate(base), np.concatenate(routed), strata=strata)

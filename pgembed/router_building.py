"""Build the router of an encoder from judged queries, pass it through its gate, and install it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from psycopg.types.json import Jsonb

from pgembed.arm_router import ArmRouter, mix
from pgembed.bootstrap import Interval, paired_bootstrap
from pgembed.database import Connection, rows_of, translated
from pgembed.domain_heads import Posterior, fit_linear_head
from pgembed.errors import GateError, InputError, NotFoundError, TrainingError
from pgembed.experts import list_experts
from pgembed.heads import (
    BASE,
    ConstantHead,
    Head,
    LinearHead,
    NeighbourHead,
    Pilot,
    PilotHead,
    Utility,
)
from pgembed.judgments import JudgedCollection, JudgedQueries, one_encoder, seeded_share
from pgembed.metrics import ndcg_of
from pgembed.model import Vectors
from pgembed.out_of_domain import FallbackFit, fit_fallback
from pgembed.pilots import build_pilots
from pgembed.routing import Router, load_router
from pgembed.soft_fitting import (
    LOGIT_TEMPERATURES,
    STANDING,
    TEMPERATURES,
    PooledProblem,
    RoutingProblem,
    SoftFit,
    fit_soft,
    select_shares,
)
from pgembed.training_data import Part, parts_of

ROUTER_QUERIES = 1000
"""Training queries of a domain that the router is built from, at most."""

REFERENCES = 200
"""Training queries of a domain that vote, or tell what is in domain, at most."""

LORA_TOPS = (1, 2)
"""Arms that are kept where each one costs a pass through half of the encoder."""

STEPS = (
    "Query vectors of every expert",
    "What the router knows",
    "Soft routing",
    "Fallback",
    "Gain over base",
)
"""Of building a router, for those who watch."""

OnStep = Callable[[str], None] | None

Kind = Literal["pilot", "lda", "logistic", "knn", "utility", "fixed", "uniform"]
Labels = Literal["instance", "domain"]

WHOLE: Mapping[type, str] = {
    LinearHead: "weighs all domains against each other",
    ConstantHead: "gives every query the same experts",
}
"""Why nothing can be added to a router of some heads."""

KINDS: tuple[Kind, ...] = ("pilot", "lda", "logistic", "knn", "utility", "fixed", "uniform")


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """What is built.

    Raises:
        InputError: an unknown kind, or a number that is too small.
    """

    kind: Kind = "pilot"
    labels: Labels = "instance"
    """Of pilots. ``instance``, the paper: each training query votes for its best expert;
    ``domain``: the arm that is best on a domain's training queries gets all of them."""
    pilots: int = 1
    """Of each expert and domain: centroids by k-means where there are several."""
    aggregate: Literal["mean", "max"] = "mean"
    """Of an expert's pilots."""
    posterior: Posterior = "lda"
    """How ``utility`` tells domains apart."""
    neighbours: int = 10
    """That vote in ``knn``."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Of ``fixed``."""
    fallback: bool = False
    """Let base answer queries that are unlike all judged ones."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(
                f"there is no router of kind {self.kind!r}", hint=f"Kinds are {', '.join(KINDS)}."
            )
        if min(self.pilots, self.neighbours) < 1:
            raise InputError(f"pilots and neighbours are at least 1, not as in {self}")
        if self.kind == "fixed" and not any(w > 0 for w in self.weights.values()):
            raise InputError("a router of kind fixed needs the weights of its experts")

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Temperatures that are tried: scores of linear heads are logarithms."""
        linear = "lda" if self.kind == "utility" and self.posterior != "knn" else self.kind
        if linear in ("fixed", "uniform"):
            return (1.0,)
        return LOGIT_TEMPERATURES if linear in ("lda", "logistic") else TEMPERATURES


@dataclass(frozen=True, slots=True)
class BuiltRouter:
    """A router that was built and installed."""

    version: int
    router: ArmRouter
    fit: SoftFit
    gain: Interval
    """Of soft routing over base on dev: macro nDCG@10."""
    fallback: FallbackFit | None = None

    @property
    def pilots(self) -> Sequence[Pilot]:
        """Pilot embeddings, where the router has some."""
        return self.router.head.pilots if isinstance(self.router.head, PilotHead) else ()


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What a head is built from."""

    train: Mapping[str, Vectors]
    """Base embeddings of training queries by domain."""
    scored: Callable[[], Mapping[str, tuple[Vectors, NDArray[np.float64]]]]
    """The same with the nDCG@10 of every arm, which takes time."""
    dev: Sequence[PooledProblem]
    arms: tuple[str, ...]


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
    _tell(on_step, "Query vectors of every expert")
    evidence = _evidence(judged, experts)
    built = fit_router(
        evidence,
        settings,
        _trained_on(connection, encoder, judged),
        tops=LORA_TOPS if experts.loras else (None,),
        on_step=on_step,
    )
    _tell(on_step, "Gain over base")
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


def fit_router(
    evidence: Evidence,
    settings: RouterSettings,
    trained_on: Mapping[str, Collection[str]],
    *,
    tops: Sequence[int | None] = (None,),
    on_step: OnStep = None,
) -> BuiltRouter:
    """Head, parameters and fallback by training and dev queries; nothing is installed."""
    _tell(on_step, "What the router knows")
    head = _head(evidence, settings)
    constant = isinstance(head, ConstantHead)
    _tell(on_step, "Soft routing")
    fit = fit_soft(
        head,
        evidence.dev,
        temperatures=settings.temperatures,
        standing={} if constant else STANDING,
        tops=tops if not constant else (None,),
    )
    router = ArmRouter(head, fit.parameters, evidence.arms)
    found = None
    _tell(on_step, "Fallback")
    if settings.fallback:
        references = {name: Z[:REFERENCES] for name, Z in evidence.train.items()}
        found = fit_fallback(router, evidence.dev, references, trained_on)
        router = replace(router, fallback=found.fallback)
    return BuiltRouter(0, router, fit, Interval(0.0, 0.0, 0.0, 1.0), found)


def _tell(on_step: OnStep, step: str) -> None:
    if on_step is not None:
        on_step(step)


def add_to_router(
    connection: Connection, judged: Sequence[JudgedCollection], expert: str
) -> tuple[str, ...]:
    """Give a new expert its place in the installed router, without touching other domains' rows.

    The new expert's domain must be judged. ``pilot``: the domain's training queries that the new
    expert answers best give it a pilot, and those that others answer best give them one there.
    ``knn`` and ``utility`` by neighbours: the domain's training queries and the shares of its arms
    are added. What the router had of the domain before is replaced. ``lda`` and ``logistic`` weigh
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
    kind, settings = _installed(connection, encoder)
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
        _forget(connection, encoder, [part.label for part in parts])
        if isinstance(head, PilotHead):
            labels: Labels = "domain" if settings.get("labels") == "domain" else "instance"
            pilots = build_pilots(
                evidence.scored(), evidence.arms, labels=labels, k=int(settings.get("pilots", 1))
            )
            _write_pilots(connection, encoder, PilotHead(pilots, head.aggregate))
        else:
            utility = _utility(evidence, ensemble=kind == "utility")
            _write_utility(connection, encoder, evidence, utility)
        if isinstance(head, NeighbourHead) or "fallback" in settings:
            _write_references(connection, encoder, evidence.train)
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


def _installed(connection: Connection, encoder: str) -> tuple[str, Mapping[str, Any]]:
    """Kind and parameters of the encoder's router."""
    with translated():
        rows = rows_of(
            connection, "select kind, parameters from pgembed.router where encoder = %s", (encoder,)
        )
    if not rows:
        raise NotFoundError(
            f"encoder {encoder!r} has no router that an expert could be added to",
            hint="Build one: pgembed router build --collection NAME.",
        )
    return rows[0][0], rows[0][1]


def _forget(connection: Connection, encoder: str, domains: Sequence[str]) -> None:
    """Delete what a router has of some domains."""
    for statement in (
        "delete from pgembed.pilot where encoder = %s and domain = any(%s)",
        "delete from pgembed.utility where encoder = %s and domain = any(%s)",
        "delete from pgembed.router_query where encoder = %s and domain = any(%s)",
    ):
        connection.execute(statement, (encoder, list(domains)))


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
    train = {part.label: _some(part.train, ROUTER_QUERIES) for part in parts if len(part.train)}
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
        if len(queries := _some(part.dev, ROUTER_QUERIES))
    ]
    if not train or not dev:
        raise TrainingError("a router needs judged queries in splits train and dev")
    return Evidence(
        {name: queries.vectors for name, queries in train.items()},
        lambda: {
            name: (queries.vectors, performance(collections[name], queries, router))
            for name, queries in train.items()
        },
        dev,
        (BASE, *sorted(router.experts)),
    )


def _head(evidence: Evidence, settings: RouterSettings) -> Head:
    if settings.kind == "uniform":
        return ConstantHead(dict.fromkeys(evidence.arms, 1.0))
    if settings.kind == "fixed":
        unknown = sorted(set(settings.weights) - set(evidence.arms))
        if unknown:
            raise InputError(
                f"there is no active expert {unknown[0]!r}",
                hint=f"Known are {', '.join(evidence.arms)}.",
            )
        return ConstantHead(settings.weights)
    if settings.kind == "pilot":
        pilots = build_pilots(
            evidence.scored(), evidence.arms, labels=settings.labels, k=settings.pilots
        )
        return PilotHead(pilots, settings.aggregate)
    utility = _utility(evidence, ensemble=settings.kind == "utility")
    posterior = settings.posterior if settings.kind == "utility" else settings.kind
    if posterior == "knn":
        kept = {name: evidence.train[name][:REFERENCES] for name in sorted(evidence.train)}
        owners = tuple(name for name, Z in kept.items() for _ in range(len(Z)))
        return NeighbourHead(
            np.concatenate(list(kept.values())), owners, utility, settings.neighbours
        )
    assert posterior in ("lda", "logistic")
    enough = {name: Z for name, Z in evidence.train.items() if len(Z) > 1}
    return fit_linear_head(posterior, enough, utility)


def _utility(evidence: Evidence, *, ensemble: bool) -> dict[str, dict[str, float]]:
    """Shares of the arms by domain: an ensemble of them, or all to the one that is best on dev."""
    if ensemble:
        return {each.problem.name: select_shares(each) for each in evidence.dev}
    return {each.problem.name: {_best_arm(arm_gains(each)): 1.0} for each in evidence.dev}


def _best_arm(gains: Mapping[str, float]) -> str:
    """The arm with the largest gain, by name among equals; base where nobody is better."""
    best = max(sorted(gains), key=lambda arm: gains[arm])
    return best if gains[best] > 0 else BASE


def arm_gains(pooled: PooledProblem) -> dict[str, float]:
    """Mean dev nDCG@10 of each arm above base."""
    count = len(pooled.problem.relevant)
    alone = np.repeat(np.eye(len(pooled.arms))[:, None, :], count, axis=1)
    means = pooled.ndcg(alone).mean(axis=1)
    base = means[pooled.arms.index(BASE)]
    return {arm: float(mean - base) for arm, mean in zip(pooled.arms, means, strict=True)}


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


def install(
    connection: Connection,
    encoder: str,
    settings: RouterSettings,
    built: BuiltRouter,
    evidence: Evidence,
) -> int:
    """Write a router, fitted by ``fit_router``, in place of the encoder's; returns its version."""
    head = built.router.head
    best = max(built.fit.table, key=lambda setting: setting.macro)
    gain = {"mean": built.gain.mean, "low": built.gain.low, "high": built.gain.high}
    metrics: dict[str, Any] = {
        "dev_ndcg_at_10": {"macro": best.macro, "by_domain": dict(best.ndcg)},
        "gain": gain,
    }
    if built.fallback is not None:
        found = built.fallback
        metrics["fallback"] = {
            "in_domain": [found.in_domain_without, found.in_domain],
            "left_out": [found.left_out_without, found.left_out],
            "left_out_base": found.left_out_base,
        }
    with translated(), connection.transaction():
        ((version,),) = rows_of(
            connection,
            "select pgembed.set_router(%s, %s, %s, %s)",
            (encoder, settings.kind, Jsonb(_parameters(settings, built)), Jsonb(metrics)),
        )
        if isinstance(head, PilotHead):
            _write_pilots(connection, encoder, head)
        elif isinstance(head, LinearHead | NeighbourHead):
            _write_utility(connection, encoder, evidence, head.utility)
        if isinstance(head, LinearHead):
            _write_domains(connection, encoder, head, evidence)
        if isinstance(head, NeighbourHead) or built.router.fallback is not None:
            _write_references(connection, encoder, evidence.train)
    return int(version)


def _parameters(settings: RouterSettings, built: BuiltRouter) -> dict[str, Any]:
    parameters = built.router.parameters
    found: dict[str, Any] = {
        "temperature": parameters.temperature,
        "standing": {name: weight for name, weight in parameters.standing.items() if weight > 0},
    }
    if parameters.top is not None:
        found["top"] = parameters.top
    by_kind: Mapping[str, dict[str, Any]] = {
        "pilot": {
            "labels": settings.labels,
            "aggregate": settings.aggregate,
            "pilots": settings.pilots,
        },
        "knn": {"neighbours": settings.neighbours},
        "utility": {"posterior": settings.posterior, "neighbours": settings.neighbours},
        "fixed": {"weights": dict(settings.weights)},
    }
    found |= by_kind.get(settings.kind, {})
    fallback = built.router.fallback
    if fallback is not None:
        found["fallback"] = {
            "threshold": fallback.threshold,
            "width": fallback.width,
            "weights": dict(fallback.weights),
        }
    return found


def _write_pilots(connection: Connection, encoder: str, head: PilotHead) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into pgembed.pilot (encoder, expert, domain, n, centroid, number)"
            " values (%s, %s, %s, %s, pgembed.as_vector(%b::real[]), %s)"
            " on conflict (encoder, expert, domain, number)"
            " do update set n = excluded.n, centroid = excluded.centroid",
            [
                (encoder, p.expert, p.domain, p.n, p.centroid.tolist(), p.number)
                for p in head.pilots
            ],
        )


def _write_domains(
    connection: Connection, encoder: str, head: LinearHead, evidence: Evidence
) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into pgembed.router_domain (encoder, domain, direction, bias, n)"
            " values (%s, %s, pgembed.as_vector(%b::real[]), %s, %s)",
            [
                (encoder, domain, direction.tolist(), float(bias), len(evidence.train[domain]))
                for domain, direction, bias in zip(
                    head.domains, head.directions, head.biases, strict=True
                )
            ],
        )


def _write_utility(
    connection: Connection, encoder: str, evidence: Evidence, utility: Utility
) -> None:
    rows = [
        (encoder, each.problem.name, arm, gain, len(each.problem.relevant), share)
        for each in evidence.dev
        for arm, gain in arm_gains(each).items()
        for share in [utility.get(each.problem.name, {}).get(arm, 0.0)]
    ]
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into pgembed.utility (encoder, domain, expert, gain, n, share)"
            " values (%s, %s, %s, %s, %s, %s)"
            " on conflict (encoder, domain, expert)"
            " do update set gain = excluded.gain, n = excluded.n, share = excluded.share",
            rows,
        )


def _write_references(connection: Connection, encoder: str, train: Mapping[str, Vectors]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into pgembed.router_query (encoder, domain, number, embedding)"
            " values (%s, %s, %s, pgembed.as_vector(%b::real[]))"
            " on conflict (encoder, domain, number) do update set embedding = excluded.embedding",
            [
                (encoder, domain, number, vector.tolist())
                for domain, Z in train.items()
                for number, vector in enumerate(Z[:REFERENCES])
            ],
        )


def _some(queries: JudgedQueries, at_most: int) -> JudgedQueries:
    """At most so many of the queries, ordered by a seeded hash: any first ones are a sample."""
    rows = sorted(range(len(queries)), key=lambda row: seeded_share(queries.texts[row]))
    return queries.take(rows[:at_most])

"""Every system of the study, as weights of arms for queries; fitted on train and dev alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.routing_study.experts import FOLDER, GENERAL, WIDE, Made, Workshop
from benchmarks.routing_study.sets import Setting, Size
from pgembed.arm_router import ArmRouter
from pgembed.domain_heads import fit_linear_head
from pgembed.encoders import open_encoder
from pgembed.encoders.bank import AdapterBank
from pgembed.experts import AnyExpert
from pgembed.heads import (
    BASE,
    ConstantHead,
    Embeddings,
    Head,
    LinearHead,
    NeighbourHead,
    Pilot,
    PilotHead,
    Utility,
)
from pgembed.judgments import JudgedCollection, JudgedQueries, seeded_share
from pgembed.linear_expert import LinearExpert
from pgembed.lora_expert import LoraExpert
from pgembed.metrics import ndcg_of
from pgembed.model import Vectors
from pgembed.pilots import best_expert_labels, build_pilots, references_of
from pgembed.router_building import ROUTER_QUERIES, TOLD_QUERIES
from pgembed.router_fitting import Evidence, arm_gains, fit_router
from pgembed.router_settings import RouterSettings
from pgembed.soft_fitting import (
    LOGIT_TEMPERATURES,
    STANDING,
    TEMPERATURES,
    PooledProblem,
    RoutingProblem,
    fit_soft,
)
from pgembed.training_data import held_out

Weights = Mapping[str, NDArray[np.float64]]
"""For each set the weight of each arm for each query: (n, arms)."""


LORA = "_lora"
"""Ends the names of LoRA arms: what comes before is that of the linear arm of the same queries."""


@dataclass(frozen=True, slots=True, eq=False)
class Arms:
    """Base, the experts, and the multi-task expert."""

    made: Mapping[str, Made[LinearExpert]]
    loras: Mapping[str, LoraExpert] = field(default_factory=dict)
    bank: AdapterBank | None = field(init=False, repr=False, default=None)
    """Of the LoRA experts, where there are any."""

    def __post_init__(self) -> None:
        if not self.loras:
            return
        bank = AdapterBank.open(open_encoder("minilm"))
        for name, expert in self.loras.items():
            bank.add(name, expert)
        object.__setattr__(self, "bank", bank)

    @property
    def names(self) -> tuple[str, ...]:
        """Base included."""
        return tuple(sorted({BASE, *self.made, *self.loras}))

    @property
    def by_name(self) -> dict[str, AnyExpert]:
        """All but base."""
        return {**{name: made.expert for name, made in self.made.items()}, **self.loras}

    @property
    def passes(self) -> NDArray[np.float64]:
        """Of the encoder, that each arm takes beyond the base's: (arms,)."""
        bank = self.bank
        costs = [bank.cost(n) if bank and n in self.loras else 0.0 for n in self.names]
        return np.asarray(costs)

    @property
    def experts(self) -> tuple[str, ...]:
        """Linear ones of one domain."""
        return tuple(sorted(set(self.made) - {GENERAL, WIDE}))

    def vectors(self, queries: JudgedQueries) -> dict[str, Vectors]:
        """Query vectors of every arm."""
        Z = queries.vectors
        found = {BASE: Z, **{name: made.expert.apply(Z) for name, made in self.made.items()}}
        if self.bank is not None:
            states, rows = self.bank.start(queries.texts), range(len(queries))
            for name in self.loras:
                found[name] = self.bank.finish(states, rows, [name] * len(queries))
        return found


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """What routers are fitted on, for one seed of the experts."""

    judged: JudgedCollection
    size: Size
    arms: Arms
    dev: Mapping[str, PooledProblem]
    """Of each domain, in the merged corpus."""
    train: Mapping[str, Vectors]
    """Base embeddings of training queries of each domain."""
    fair: Mapping[str, tuple[Vectors, NDArray[np.float64]]]
    """Training queries that the experts scoring them were not trained on, with the nDCG@10 of
    every expert: two-fold cross-fitting."""

    @classmethod
    def of(cls, workshop: Workshop, size: Size, setting: Setting, seed: int) -> World:
        """Train what is missing, and score the training queries."""
        judged = workshop.judged
        made = {name: workshop.expert(name, seed) for name in size.domains}
        arms = Arms({**made, GENERAL: workshop.general(seed)})
        dev = {
            name: pooled(judged.split(name, "dev"), name, setting, arms) for name in size.domains
        }
        train = {name: judged.split(name, "train").sample(TOLD_QUERIES) for name in size.domains}
        return cls(
            judged,
            size,
            arms,
            dev,
            {name: queries.vectors for name, queries in train.items()},
            cross_fitted(workshop),
        )

    @property
    def evidence(self) -> Evidence:
        """What the product's own router building works on."""
        return Evidence(self.train, lambda: self.fair, list(self.dev.values()), self.arms.names)

    @property
    def own(self) -> dict[str, dict[str, float]]:
        """Each domain to its own expert."""
        return {name: {name: 1.0} for name in self.size.domains}


def pooled(queries: JudgedQueries, name: str, setting: Setting, arms: Arms) -> PooledProblem:
    """Queries of a set as every arm sees them."""
    corpus = setting.corpora[name][0]
    relevant = setting.relevant(name, queries)
    return PooledProblem(RoutingProblem(name, arms.vectors(queries), relevant, corpus))


@cache
def cross_fitted(
    workshop: Workshop,
) -> dict[str, tuple[Vectors, NDArray[np.float64]]]:
    """Training queries of every domain, scored by experts that did not learn from them.

    By the experts of the first seed: labels of best experts hardly depend on it.
    """
    return {name: _cross_fitted(workshop, name) for name in workshop.domains}


def router_queries(workshop: Workshop, name: str) -> tuple[list[int], JudgedQueries]:
    """Training queries of a domain that every expert is scored on, and their rows there."""
    train, _ = held_out(workshop.judged, name)
    rows = sorted(range(len(train)), key=lambda row: seeded_share(train.texts[row], seed=5))
    rows = sorted(rows[:ROUTER_QUERIES])
    return rows, train.take(rows)


def _cross_fitted(workshop: Workshop, name: str) -> tuple[Vectors, NDArray[np.float64]]:
    """Training queries of a domain under every expert, its own replaced by the other half's."""
    words = "-".join(sorted(workshop.expert(each, 0).name for each in workshop.domains))
    file = FOLDER / f"{name}-scores-{hashlib.sha256(words.encode()).hexdigest()[:16]}.npz"
    if file.exists():
        with np.load(file) as kept:
            return kept["Z"], kept["scores"]
    rows, queries = router_queries(workshop, name)
    corpus = workshop.judged.corpus
    columns = []
    for expert in sorted(workshop.domains):
        if expert == name:
            # The expert of one half scores the other half.
            halves = [workshop.fold(name, 0, fold).expert for fold in (0, 1)]
            both = [half.apply(queries.vectors) for half in halves]
            vectors = np.stack([both[1 - row % 2][place] for place, row in enumerate(rows)])
        else:
            vectors = workshop.expert(expert, 0).expert.apply(queries.vectors)
        columns.append(ndcg_of(vectors, corpus, queries.relevant))
    scores = np.column_stack(columns)
    np.savez(file, Z=queries.vectors, scores=scores)
    return queries.vectors, scores


@dataclass(frozen=True, slots=True)
class System:
    """A router and how it is asked."""

    router: ArmRouter
    mode: str
    about: str
    references: Mapping[str, Vectors] = field(default_factory=dict)
    """Of each domain, where queries are compared with them."""

    def weights(self, each: PooledProblem) -> NDArray[np.float64]:
        """Weights for the queries of a problem, in the order of its arms."""
        return each.shares_of(self.router.weights(each.problem.vectors[BASE], self.mode))


@dataclass(frozen=True, slots=True, eq=False)
class DotHead:
    """The released code's rule: the owner of the pilot with the greatest dot product."""

    pilots: Sequence[Pilot]

    @property
    def arms(self) -> tuple[str, ...]:
        """Experts with a pilot."""
        return tuple(sorted({pilot.expert for pilot in self.pilots}))

    @property
    def labels(self) -> tuple[str, ...]:
        """The same."""
        return self.arms

    def scores(self, Z: Embeddings) -> NDArray[np.float64]:
        """Greatest dot product with an expert's pilots, which are not of unit length."""
        return np.column_stack(
            [
                np.max(
                    [Z.astype(np.float64) @ p.centroid for p in self.pilots if p.expert == arm],
                    axis=0,
                )
                for arm in self.arms
            ]
        )

    def shares(self, Z: Embeddings, temperature: float) -> NDArray[np.float64]:
        """All to the greatest."""
        chosen: NDArray[np.float64] = np.eye(len(self.arms))[np.argmax(self.scores(Z), axis=1)]
        return chosen

    def reason(self, z: Embeddings, temperature: float) -> str:
        """What decides."""
        return "the owner of the pilot with the greatest dot product"


def fitted_systems(world: World) -> dict[str, System]:
    """All routers of the study."""
    experts = world.arms.experts
    fair = {name: (Z, scores) for name, (Z, scores) in world.fair.items()}
    paper = build_pilots(fair, experts)
    literal, raw = _literal_pilots(fair, experts)
    found: dict[str, System] = {
        "S7 uniform mixture": fixed(dict.fromkeys(experts, 1.0), "all experts alike"),
        "S8 DatasetRouter": hard(_dataset_router(world), "1-NN over 100 queries a domain"),
        "S9 RouterRetriever": hard(PilotHead(paper), "mean cosine, k=1, ties dropped"),
        "S9 literal": hard(PilotHead(literal), "mean cosine, first expert wins ties"),
        "S10 code rule": hard(DotHead(raw), "greatest dot product over all pilots"),
        "S11 mass-weighted": hard(PilotHead(_mass(fair, experts)), "one centroid an expert"),
    }
    for k in (2, 4, 8):
        pilots = build_pilots(fair, experts, k=k)
        found[f"S12 k={k} mean"] = hard(PilotHead(pilots), "mean cosine")
        found[f"S12 k={k} max"] = hard(PilotHead(pilots, "max"), "greatest cosine")
    lda = fit_linear_head("lda", world.train, world.own)
    logistic = fit_linear_head("logistic", world.train, world.own)
    references = {name: references_of(Z) for name, Z in sorted(world.train.items())}
    neighbours = _neighbours(references, world.own)
    found |= {
        "S13 LDA": hard(lda, "domain labels"),
        "S13 logistic": hard(logistic, "domain labels"),
        "S13 kNN": hard(neighbours, "domain labels, 10 neighbouring clusters"),
        "S14 logistic on best expert": hard(_best_expert_head(fair, experts), "instance labels"),
        "S15 utility": hard(_utility_head(lda, world), "LDA, then the arm of most expected gain"),
        "S16 soft pilots": _soft(PilotHead(paper), world, TEMPERATURES, {}),
        "S16 soft pilots, top 2": _soft(PilotHead(paper), world, TEMPERATURES, {}, 2),
        "S16 soft LDA": _soft(lda, world, LOGIT_TEMPERATURES, {}),
        "S16 soft LDA, top 2": _soft(lda, world, LOGIT_TEMPERATURES, {}, 2),
        "S16 soft pilots + base, general": _soft(PilotHead(paper), world, TEMPERATURES, STANDING),
        "S16 soft LDA + base, general": _soft(lda, world, LOGIT_TEMPERATURES, STANDING),
    }
    found["S16 utility, soft"] = utility_system(world, fallback=False)
    found["S17 utility, soft, fallback"] = utility_system(world, fallback=True)
    return found


def utility_system(world: World, *, fallback: bool) -> System:
    """What ``pgembed router build --kind utility`` builds."""
    domains = world.size.domains
    trained_on = dict.fromkeys((GENERAL, WIDE, GENERAL + LORA), domains)
    for name in domains:
        trained_on |= {name: (name,), name + LORA: (name,)}
    settings = RouterSettings(kind="utility", fallback=fallback)
    built = fit_router(world.evidence, settings, trained_on)
    return System(built.router, "soft", json.dumps(describe(built.router)), built.references)


def describe(router: ArmRouter) -> dict[str, object]:
    """A router's fitted parameters."""
    parameters, fallback = router.parameters, router.fallback
    found: dict[str, object] = {
        "temperature": parameters.temperature,
        "standing": {n: w for n, w in parameters.standing.items() if w},
        "top": parameters.top,
        "minimum_share": parameters.minimum_share,
    }
    if isinstance(router.head, LinearHead):
        found["shares"] = {d: dict(shares) for d, shares in router.head.utility.items()}
    if fallback is not None:
        found["fallback"] = {"threshold": fallback.threshold, "width": fallback.width}
    return found


def single(arm: str) -> System:
    """One arm for every query."""
    return fixed({arm: 1.0}, "one arm")


def best_on_dev(world: World) -> dict[str, str]:
    """The arm of each domain that is best on dev."""
    best = {}
    for name, each in world.dev.items():
        gains = arm_gains(each)
        best[name] = max(sorted(gains), key=lambda arm: gains[arm])
    return best


def fixed(weights: Mapping[str, float], about: str) -> System:
    """The same weights for every query."""
    return System(ArmRouter(ConstantHead(weights)), "soft", about)


def hard(head: Head, about: str) -> System:
    """One arm for each query."""
    return System(ArmRouter(head), "hard", about)


def _soft(
    head: Head,
    world: World,
    temperatures: Sequence[float],
    standing: Mapping[str, Sequence[float]],
    top: int | None = None,
) -> System:
    fit = fit_soft(
        head, list(world.dev.values()), temperatures=temperatures, standing=standing, top=top
    )
    router = ArmRouter(head, fit.parameters)
    return System(router, "soft", json.dumps(describe(replace(router, head=ConstantHead({})))))


def _dataset_router(world: World) -> NeighbourHead:
    kept = {name: Z[:100] for name, Z in sorted(world.train.items())}
    owners = tuple(name for name, Z in kept.items() for _ in range(len(Z)))
    return NeighbourHead(np.concatenate(list(kept.values())), owners, world.own, neighbours=1)


def _neighbours(references: Mapping[str, Vectors], own: Utility) -> NeighbourHead:
    owners = tuple(name for name, vectors in references.items() for _ in range(len(vectors)))
    return NeighbourHead(np.concatenate(list(references.values())), owners, own)


def _utility_head(head: LinearHead, world: World) -> LinearHead:
    """Hard routing to the arm of most expected gain: gains take the place of shares."""
    gains = {name: arm_gains(each) for name, each in world.dev.items()}
    least = min(min(each.values()) for each in gains.values())
    # Rows of equal sum: expected shares then rank as expected gains do.
    lifted = {d: {arm: gain - least for arm, gain in each.items()} for d, each in gains.items()}
    most = max(sum(each.values()) for each in lifted.values())
    count = len(world.arms.names)
    even = {
        d: {arm: value + (most - sum(each.values())) / count for arm, value in each.items()}
        for d, each in lifted.items()
    }
    return LinearHead(head.domains, head.directions, head.biases, even)


def _best_expert_head(
    fair: Mapping[str, tuple[Vectors, NDArray[np.float64]]], experts: Sequence[str]
) -> LinearHead:
    groups: dict[str, list[Vectors]] = {}
    for Z, scores in fair.values():
        labels = best_expert_labels(scores)
        for column, name in enumerate(experts):
            if np.any(labels == column):
                groups.setdefault(name, []).append(Z[labels == column])
    known = {name: np.concatenate(parts) for name, parts in groups.items()}
    known = {name: Z for name, Z in known.items() if len(Z) > 1}
    return fit_linear_head("logistic", known, {name: {name: 1.0} for name in known})


def _literal_pilots(
    fair: Mapping[str, tuple[Vectors, NDArray[np.float64]]], experts: Sequence[str]
) -> tuple[list[Pilot], list[Pilot]]:
    """Pilots where the first expert wins every tie: at unit length, and as they are."""
    normal, raw = [], []
    for domain, (Z, scores) in fair.items():
        labels = np.argmax(scores, axis=1)
        for column, name in enumerate(experts):
            group = Z[labels == column]
            if len(group):
                mean = group.mean(axis=0, dtype=np.float64).astype(np.float32)
                raw.append(Pilot(name, domain, len(group), mean))
                normal.append(Pilot(name, domain, len(group), mean))
    return normal, raw


def _mass(
    fair: Mapping[str, tuple[Vectors, NDArray[np.float64]]], experts: Sequence[str]
) -> list[Pilot]:
    everything = (
        np.concatenate([Z for Z, _ in fair.values()]),
        np.concatenate([scores for _, scores in fair.values()]),
    )
    return build_pilots({"": everything}, experts, min_group=10)

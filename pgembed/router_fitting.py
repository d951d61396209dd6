"""Head, parameters and fallback of a router, by scored training queries and dev queries."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pgembed.arm_router import ArmRouter
from pgembed.bootstrap import Interval
from pgembed.domain_heads import fit_linear_head
from pgembed.errors import InputError
from pgembed.heads import (
    BASE,
    ConstantHead,
    Head,
    NeighbourHead,
    Pilot,
    PilotHead,
)
from pgembed.model import Vectors
from pgembed.out_of_domain import FallbackFit, fit_fallback
from pgembed.pilots import build_pilots, references_of
from pgembed.router_settings import RouterSettings
from pgembed.soft_fitting import (
    STANDING,
    PooledProblem,
    SoftFit,
    fit_soft,
    select_shares,
)

STEPS = (
    "Query vectors of every expert",
    "What the router knows",
    "Soft routing",
    "Fallback",
    "Gain over base",
)
"""Of building a router, for those who watch."""


MINIMUM_SHARE = 0.1
"""Share of an arm, as a part of the heaviest one's, below which it does not answer: what it would
add is nothing on dev, and a LoRA arm costs half a pass (docs/decisions.md)."""

OnStep = Callable[[str], None] | None


@dataclass(frozen=True, slots=True)
class BuiltRouter:
    """A router that was built and installed."""

    version: int
    router: ArmRouter
    fit: SoftFit
    gain: Interval
    """Of soft routing over base on dev: macro nDCG@10."""
    fallback: FallbackFit | None = None
    references: Mapping[str, Vectors] = field(default_factory=dict)
    """Of each domain, where the head or the fallback compares queries with them."""

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
    """Some of them with the nDCG@10 of every arm, which takes time."""
    dev: Sequence[PooledProblem]
    arms: tuple[str, ...]


def fit_router(
    evidence: Evidence,
    settings: RouterSettings,
    trained_on: Mapping[str, Collection[str]],
    *,
    on_step: OnStep = None,
) -> BuiltRouter:
    """Head, parameters and fallback by training and dev queries; nothing is installed."""
    tell(on_step, "What the router knows")
    references = {}
    if settings.fallback or settings.tells_by == "knn":
        references = {name: references_of(Z) for name, Z in sorted(evidence.train.items())}
    head = _head(evidence, settings, references)
    constant = isinstance(head, ConstantHead)
    tell(on_step, "Soft routing")
    fit = fit_soft(
        head,
        evidence.dev,
        temperatures=settings.temperatures,
        standing={} if constant else STANDING,
        minimum_share=0.0 if constant else MINIMUM_SHARE,
    )
    router = ArmRouter(head, fit.parameters, evidence.arms)
    found = None
    tell(on_step, "Fallback")
    if settings.fallback:
        found = fit_fallback(router, evidence.dev, references, trained_on)
        router = replace(router, fallback=found.fallback)
    return BuiltRouter(0, router, fit, Interval(0.0, 0.0, 0.0, 1.0), found, references)


def tell(on_step: OnStep, step: str) -> None:
    """Say which step begins, where somebody watches."""
    if on_step is not None:
        on_step(step)


def _head(evidence: Evidence, settings: RouterSettings, references: Mapping[str, Vectors]) -> Head:
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
    utility = arm_shares(evidence, ensemble=settings.kind == "utility")
    posterior = settings.tells_by
    if posterior == "knn":
        owners = tuple(name for name, Z in references.items() for _ in range(len(Z)))
        return NeighbourHead(
            np.concatenate(list(references.values())), owners, utility, settings.neighbours
        )
    assert posterior in ("lda", "logistic")
    enough = {name: Z for name, Z in evidence.train.items() if len(Z) > 1}
    return fit_linear_head(posterior, enough, utility)


def arm_shares(evidence: Evidence, *, ensemble: bool) -> dict[str, dict[str, float]]:
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

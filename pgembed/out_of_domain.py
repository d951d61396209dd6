"""The out-of-domain fallback, fitted by leaving each domain out in turn."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pgembed.arm_router import ArmRouter, Fallback
from pgembed.heads import (
    BASE,
    ConstantHead,
    Head,
    LinearHead,
    Matrix,
    NeighbourHead,
    PilotHead,
)
from pgembed.model import Vectors
from pgembed.soft_fitting import PooledProblem

QUANTILES = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5)
"""Thresholds that are tried: so many of the judged queries would be below."""
WIDTHS = (0.005, 0.02, 0.05)


@dataclass(frozen=True, slots=True, eq=False)
class FallbackFit:
    """The fallback that was chosen, and what it costs and brings on dev."""

    fallback: Fallback
    in_domain: float
    """Macro nDCG@10 on dev with it."""
    in_domain_without: float
    """The same without a fallback."""
    left_out: float
    """Macro nDCG@10 of dev queries whose domain the router was not told of, with it."""
    left_out_without: float
    left_out_base: float
    """The same of the base alone."""


@dataclass(frozen=True, slots=True, eq=False)
class _Routed:
    """Dev queries of a domain with the weights that a router without a fallback gives them."""

    pooled: PooledProblem
    shares: Matrix
    similarity: Matrix
    """Mean cosine to the nearest references."""

    def means(self, fallbacks: Sequence[Fallback]) -> Matrix:
        """Mean nDCG@10 without a fallback, of the base alone, and with each of some."""
        base = np.zeros_like(self.shares)
        base[:, self.pooled.arms.index(BASE)] = 1
        kept = [np.ones(len(base)), np.zeros(len(base))]
        kept += [each.kept(self.similarity) for each in fallbacks]
        mixed = [share[:, None] * self.shares + (1 - share)[:, None] * base for share in kept]
        means: Matrix = self.pooled.ndcg(np.stack(mixed)).mean(axis=1)
        return means


def fit_fallback(
    router: ArmRouter,
    problems: Sequence[PooledProblem],
    references: Mapping[str, Vectors],
    experts: Mapping[str, Collection[str]],
) -> FallbackFit:
    """Choose where base takes over, by macro dev nDCG in domain and out of it, both alike.

    A query is out of domain where its own domain is left out: its pilots, its references
    and the experts that were trained on it alone. Base stands in for an expert that learned from
    it among others: what that one would be worth to strangers cannot be seen on its own queries.

    Args:
        router: fitted, without a fallback.
        problems: dev queries of each domain.
        references: centroids of training queries by domain.
        experts: domains that each expert was trained on.
    """
    everything = np.concatenate([references[name] for name in sorted(references)])
    known = [_routed(each, router, everything) for each in problems]
    unknown = [
        _routed(
            each,
            *_left_out(router, each.problem.name, references, experts),
            to_base=[name for name, known in experts.items() if each.problem.name in known],
        )
        for each in problems
    ]
    thresholds = np.quantile(np.concatenate([each.similarity for each in known]), QUANTILES)
    tried = [
        Fallback(threshold, width, everything)
        for threshold, width in itertools.product(thresholds.tolist(), WIDTHS)
    ]
    inside = np.mean([each.means(tried) for each in known], axis=0)
    outside = np.mean([each.means(tried) for each in unknown], axis=0)
    # The first of the best; what differs by rounding alone is as good.
    best = int(np.argmax(np.round(inside + outside, 9)[2:]))
    return FallbackFit(
        fallback=tried[best],
        in_domain=float(inside[2 + best]),
        in_domain_without=float(inside[0]),
        left_out=float(outside[2 + best]),
        left_out_without=float(outside[0]),
        left_out_base=float(outside[1]),
    )


def _routed(
    pooled: PooledProblem, router: ArmRouter, references: Vectors, to_base: Collection[str] = ()
) -> _Routed:
    """The weights of a problem's queries; base gets those of some arms."""
    Z = pooled.problem.vectors[BASE]
    similarity = Fallback(0, 1, references).similarity(Z)
    shares = pooled.shares_of(router.weights(Z, "soft"))
    for arm in to_base:
        if arm in pooled.arms:
            column = pooled.arms.index(arm)
            shares[:, pooled.arms.index(BASE)] += shares[:, column]
            shares[:, column] = 0
    return _Routed(pooled, shares, similarity)


def _left_out(
    router: ArmRouter,
    domain: str,
    references: Mapping[str, Vectors],
    experts: Mapping[str, Collection[str]],
) -> tuple[ArmRouter, Vectors]:
    """A router that does not know a domain, and the references of the others."""
    gone = {name for name, trained_on in experts.items() if {*trained_on} == {domain}}
    head = without(router.head, domain, gone)
    others = [vectors for name, vectors in sorted(references.items()) if name != domain]
    standing = {n: w for n, w in router.parameters.standing.items() if n not in gone}
    parameters = replace(router.parameters, standing=standing)
    rest = np.concatenate(others) if others else references[domain]
    return replace(router, head=head, parameters=parameters), rest


def without(head: Head, domain: str, experts: set[str]) -> Head:
    """The head as if a domain and some experts had never been."""
    if isinstance(head, PilotHead):
        kept = [p for p in head.pilots if p.domain != domain and p.expert not in experts]
        return replace(head, pilots=kept)
    if isinstance(head, LinearHead):
        rows = [n for n, name in enumerate(head.domains) if name != domain]
        return LinearHead(
            tuple(head.domains[n] for n in rows),
            head.directions[rows],
            head.biases[rows],
            _fewer(head.utility, experts),
        )
    if isinstance(head, NeighbourHead):
        rows = [n for n, name in enumerate(head.owners) if name != domain]
        owners = tuple(head.owners[n] for n in rows)
        return NeighbourHead(
            head.references[rows], owners, _fewer(head.utility, experts), head.neighbours
        )
    assert isinstance(head, ConstantHead)
    return ConstantHead({arm: w for arm, w in head.weights.items() if arm not in experts})


def _fewer(
    utility: Mapping[str, Mapping[str, float]], experts: set[str]
) -> dict[str, dict[str, float]]:
    return {
        domain: {arm: share for arm, share in arms.items() if arm not in experts}
        for domain, arms in utility.items()
    }

"""What matters: number of experts, training queries of the router, adding without refitting."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.routing_study.experts import GENERAL
from benchmarks.routing_study.systems import System, World
from pgembed.arm_router import ArmRouter
from pgembed.domain_heads import fit_linear_head
from pgembed.heads import PilotHead
from pgembed.out_of_domain import without
from pgembed.pilots import build_pilots
from pgembed.soft_fitting import PooledProblem, select_shares

ORDERS = 3
COUNTS = (20, 50, 200)
"""Training queries of a domain that the router sees."""


def ablations(world: World, problems: Mapping[str, PooledProblem], ours: System) -> dict[str, Any]:
    """All of them, macro nDCG@10 in points over the domains, in the setting of the problems."""
    return {
        "experts": _experts(world, problems, ours),
        "router_queries": _router_queries(world, problems),
        "add": _add(world),
    }


def _macro(problems: Mapping[str, PooledProblem], names: Sequence[str], system: System) -> float:
    means = [problems[n].ndcg(system.weights(problems[n])[None]).mean() for n in names]
    return round(100 * float(np.mean(means)), 2)


def _experts(
    world: World, problems: Mapping[str, PooledProblem], ours: System
) -> list[dict[str, Any]]:
    """Routers over the first 2, 3, ... experts of random orders, on all domains."""
    found: list[dict[str, Any]] = []
    names = world.size.domains
    for order in range(ORDERS):
        drawn = np.random.default_rng(order).permutation(np.asarray(names)).tolist()
        for count in range(2, len(names) + 1):
            kept, gone = drawn[:count], drawn[count:]
            pilots = build_pilots({n: _columns(world, n, kept) for n in kept}, sorted(kept))
            systems = {
                "paper": System(ArmRouter(PilotHead(pilots)), "hard", ""),
                "ours": replace(ours, router=_fewer(ours, kept, gone)),
            }
            found.append(
                {"order": order, "experts": count}
                | {key: _macro(problems, names, system) for key, system in systems.items()}
            )
    return found


def _fewer(ours: System, kept: Sequence[str], gone: Sequence[str]) -> ArmRouter:
    """The router without some domains, and without the multi-task expert, which knows them."""
    router = ours.router
    head = without(router.head, "", {GENERAL})
    for domain in gone:
        head = without(head, domain, {domain})
    standing = {n: w for n, w in router.parameters.standing.items() if n != GENERAL}
    parameters = replace(router.parameters, standing=standing)
    fallback = router.fallback
    if fallback is not None:
        references = [ours.references[name] for name in sorted(kept)]
        fallback = replace(fallback, references=np.concatenate(references))
    return replace(router, head=head, parameters=parameters, fallback=fallback)


def _columns(world: World, domain: str, experts: Sequence[str]) -> Any:
    Z, scores = world.fair[domain]
    known = world.arms.experts
    return Z, scores[:, [known.index(expert) for expert in sorted(experts)]]


def _router_queries(world: World, problems: Mapping[str, PooledProblem]) -> list[dict[str, Any]]:
    """LDA and pilots by domain label from few training queries; hard, each to its own expert."""
    found = []
    for count in (*COUNTS, None):
        train = {name: Z[:count] for name, Z in world.train.items()}
        lda = fit_linear_head("lda", train, world.own)
        own = {
            name: (Z, np.eye(len(world.size.domains))[[sorted(train).index(name)] * len(Z)])
            for name, Z in train.items()
        }
        pilots = build_pilots(own, sorted(train), min_group=1)
        found.append(
            {
                "queries": count or "all",
                "lda": _macro(problems, world.size.domains, System(ArmRouter(lda), "hard", "")),
                "pilots": _macro(
                    problems, world.size.domains, System(ArmRouter(PilotHead(pilots)), "hard", "")
                ),
            }
        )
    return found


def _add(world: World) -> dict[str, Any]:
    """Pilots of an expert that comes last are those of a router built with it from the start."""
    experts = world.arms.experts
    started = time.perf_counter()
    added = build_pilots({experts[-1]: world.fair[experts[-1]]}, experts)
    seconds = time.perf_counter() - started
    whole = build_pilots(dict(world.fair), experts)
    others = [p for p in whole if p.domain != experts[-1]]
    same = {(p.expert, p.domain, p.n) for p in whole} == {
        (p.expert, p.domain, p.n) for p in (*others, *added)
    }
    started = time.perf_counter()
    fit_linear_head("lda", world.train, world.own)
    select_shares(world.dev[experts[-1]])
    refit = time.perf_counter() - started
    return {
        "pilots_seconds": round(seconds, 4),
        "same_as_built_whole": same,
        "lda_and_shares_seconds": round(refit, 2),
    }

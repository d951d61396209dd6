"""LoRA experts beside linear ones, and a LoRA multi-task expert to be fair: first seed, merged."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.routing_study.experts import FOLDER, GENERAL, Workshop, digest, with_negatives
from benchmarks.routing_study.measuring import alone
from benchmarks.routing_study.sets import Setting, Size
from benchmarks.routing_study.systems import (
    LORA,
    System,
    World,
    best_on_dev,
    fixed,
    hard,
    pooled,
    single,
    utility_system,
)
from benchmarks.routing_study.verdicts import (
    BASE,
    MULTITASK,
    ORACLE,
    OURS,
    PAPER,
    WIDE,
    Figures,
    Scores,
    plain,
    quality_targets,
)
from pgembed import heads
from pgembed.domain_heads import fit_linear_head
from pgembed.encoders import open_encoder
from pgembed.encoders.bank import AdapterBank
from pgembed.encoders.lora_files import lora_from_bytes, lora_to_bytes
from pgembed.heads import PilotHead
from pgembed.lora_expert import LoraExpert
from pgembed.lora_settings import LoraSettings
from pgembed.metrics import ndcg_of
from pgembed.pilots import build_pilots
from pgembed.router_building import LORA_TOPS
from pgembed.soft_fitting import PooledProblem
from pgembed.trained import Trained

console = Console()

STEPS = 400
DEV = 150
"""Queries of a domain that choose the step, at most: each look encodes them."""

RANK, ALPHA = 8, 32.0
GENERAL_RANK, GENERAL_ALPHA = 64, 90.5
"""Of the multi-task expert, about the size of all nine others: alpha grows with the root of the
rank (rsLoRA, arXiv 2312.03732)."""

LORA_MULTITASK = "S2 multi-task, LoRA"
MIXED_MULTITASK = "S2 multi-task, both kinds and base mixed"
PAPER_LORA, PAPER_BEST = "S9 RouterRetriever, LoRA", "S9 RouterRetriever, better kind"
LOGISTIC = "S13 logistic, best arm"
WITHOUT_FALLBACK, ANY_NUMBER = "S16 utility, soft", "S16 utility, soft, any number of arms"


@dataclass(frozen=True, slots=True)
class LoraMade:
    """A LoRA expert of the study with what is reported of its training."""

    expert: LoraExpert
    facts: Mapping[str, Any]


def named(domain: str) -> str:
    """The LoRA arm of a domain, or of all."""
    return domain + LORA


def train_lora_expert(workshop: Workshop, name: str) -> LoraMade:
    """The LoRA expert of a domain, or the multi-task one: from its file, or trained now.

    The multi-task expert takes as many steps as all others together.
    """
    count = len(workshop.domains) if name == GENERAL else 1
    domains = workshop.domains if name == GENERAL else (name,)
    # The trainer multiplies by the square root of the problems.
    steps, every = (round(n * np.sqrt(count)) for n in (STEPS, 100))
    settings = LoraSettings(steps=steps, evaluate_every=every, rank=RANK, alpha=ALPHA)
    if name == GENERAL:
        settings = replace(settings, rank=GENERAL_RANK, alpha=GENERAL_ALPHA)
    problems = [workshop.problems[domain] for domain in domains]
    words = f"{named(name)}-{digest(problems, settings)}"
    weights, about = FOLDER / f"{words}.safetensors", FOLDER / f"{words}.json"
    if not about.exists():
        trained = _train(workshop, domains, settings)
        weights.write_bytes(lora_to_bytes(trained.expert))
        facts = {
            "steps": trained.steps,
            "best_step": trained.best_step,
            "seconds": round(trained.seconds),
            "curve": [[step, round(ndcg, 4)] for step, ndcg in trained.curve],
        }
        about.write_text(json.dumps(facts))
        console.print(f"{trained.seconds:6.1f} s  {words}: best step {trained.best_step}")
    return LoraMade(lora_from_bytes(weights.read_bytes()), json.loads(about.read_text()))


def _train(
    workshop: Workshop, domains: Sequence[str], settings: LoraSettings
) -> Trained[LoraExpert]:
    from pgembed.lora_training import train_lora

    problems = [with_negatives(workshop.problems[domain]) for domain in domains]
    few = [
        replace(
            each,
            dev_queries=each.dev_queries[:DEV],
            dev_relevant=each.dev_relevant[:DEV],
            dev_texts=each.dev_texts[:DEV],
        )
        for each in problems
    ]
    return train_lora(few, AdapterBank.open(open_encoder("minilm")), settings)


@dataclass(frozen=True, slots=True, eq=False)
class BothKinds:
    """The world with arms of both kinds, its systems, and their scores on test."""

    world: World
    systems: Mapping[str, System]
    scores: Mapping[str, Scores]
    result: dict[str, Any]


def both_kinds(workshop: Workshop, size: Size, merged: Setting, linear: World) -> BothKinds:
    """Train what is missing, fit routers over arms of both kinds, and measure them.

    Pilots and references are those of the linear experts: they are base embeddings of the same
    domains' training queries.
    """
    judged = workshop.judged
    made = {name: train_lora_expert(workshop, name) for name in (*size.domains, GENERAL)}
    arms = replace(linear.arms, loras={named(name): each.expert for name, each in made.items()})
    dev = {n: pooled(judged.split(n, "dev"), n, merged, arms) for n in size.domains}
    world = replace(linear, arms=arms, dev=dev)
    systems = _systems(world)
    tests = {n: pooled(judged.split(n, "test"), n, merged, arms) for n in size.sets}
    scores = _scores(world, systems, tests)
    wide = workshop.general(0, wide=True).expert
    scores[WIDE] = {
        n: ndcg_of(wide.apply(q.vectors), judged.corpus, merged.relevant(n, q))
        for n, q in ((n, judged.split(n, "test")) for n in size.sets)
    }
    result = _result(Figures(size, scores, {}), world, systems, tests)
    result["training"] = {name: dict(each.facts) for name, each in made.items()}
    return BothKinds(world, systems, scores, result)


def _systems(world: World) -> dict[str, System]:
    domains = world.size.domains
    pilots = build_pilots(dict(world.fair), world.arms.experts)
    better = {n: _better(world.dev[n], n) for n in domains}
    best = {n: {arm: 1.0} for n, arm in best_on_dev(world).items()}
    found = {
        BASE: single(heads.BASE),
        MULTITASK: single(GENERAL),
        LORA_MULTITASK: single(named(GENERAL)),
        MIXED_MULTITASK: _multitask(world),
        **{f"S4 expert {n}": single(n) for n in domains},
        **{f"S4 expert {named(n)}": single(named(n)) for n in domains},
        PAPER: hard(PilotHead(pilots), ""),
        PAPER_LORA: hard(PilotHead([replace(p, expert=named(p.expert)) for p in pilots]), ""),
        PAPER_BEST: hard(PilotHead([replace(p, expert=better[p.expert]) for p in pilots]), ""),
        LOGISTIC: hard(fit_linear_head("logistic", world.train, best), ""),
    }
    found[ANY_NUMBER] = utility_system(world, fallback=False)
    found[WITHOUT_FALLBACK] = utility_system(world, fallback=False, tops=LORA_TOPS)
    found[OURS] = utility_system(world, fallback=True, tops=LORA_TOPS)
    return found


def _better(dev: PooledProblem, domain: str) -> str:
    """The kind of a domain's expert that is better on dev."""
    means = alone(dev).mean(axis=1)
    kinds = (domain, named(domain))
    return max(kinds, key=lambda arm: float(means[dev.arms.index(arm)]))


def _multitask(world: World) -> System:
    """Base and both multi-task experts in the shares that are best on dev, steps of a tenth."""
    arms = (heads.BASE, GENERAL, named(GENERAL))
    shares = [
        (base, linear, 10 - base - linear)
        for base, linear in itertools.product(range(11), repeat=2)
        if base + linear <= 10
    ]
    reached = []
    for each in world.dev.values():
        weights = np.zeros((len(shares), len(each.problem.relevant), len(each.arms)))
        for column, arm in enumerate(arms):
            weights[:, :, each.arms.index(arm)] = np.asarray(shares)[:, column, None] / 10
        reached.append(each.ndcg(weights).mean(axis=1))
    best = shares[int(np.argmax(np.mean(reached, axis=0)))]
    weights = {arm: share / 10 for arm, share in zip(arms, best, strict=True) if share}
    return fixed(weights, json.dumps(weights))


def _scores(
    world: World, systems: Mapping[str, System], tests: Mapping[str, PooledProblem]
) -> dict[str, dict[str, NDArray[np.float64]]]:
    oracle = best_on_dev(world)
    found: dict[str, dict[str, NDArray[np.float64]]] = {name: {} for name in (*systems, ORACLE)}
    for name, each in tests.items():
        best = np.zeros((len(each.problem.relevant), len(each.arms)))
        best[:, each.arms.index(oracle.get(name, heads.BASE))] = 1
        weights = [system.weights(each) for system in systems.values()]
        for system, row in zip(found, each.ndcg(np.stack([*weights, best])), strict=True):
            found[system][name] = row
    return found


MULTITASKS = (MULTITASK, WIDE, LORA_MULTITASK, MIXED_MULTITASK)
OTHERS = (BASE, *MULTITASKS, PAPER, PAPER_LORA, PAPER_BEST, LOGISTIC, WITHOUT_FALLBACK, ORACLE)


def _result(
    figures: Figures,
    world: World,
    systems: Mapping[str, System],
    tests: Mapping[str, PooledProblem],
) -> dict[str, Any]:
    scores, size = figures.merged, figures.size
    return {
        "macro": {
            system: {
                "domains": round(figures.macro(system), 2),
                "without_expert": round(figures.macro(system, size.without_expert), 2),
            }
            for system in scores
        },
        "sets": {
            system: {n: round(100 * float(v.mean()), 2) for n, v in found.items()}
            for system, found in scores.items()
        },
        "targets": _targets(figures),
        "gains": {f"{OURS} - {other}": plain(figures.gain(OURS, other)) for other in OTHERS},
        "passes": {name: _passes(world, systems[name], tests) for name in ROUTED},
        "dataset_oracle": best_on_dev(world),
        "parameters": {n: json.loads(each.about) for n, each in systems.items() if each.about},
    }


ROUTED = (PAPER, PAPER_LORA, PAPER_BEST, LOGISTIC, ANY_NUMBER, WITHOUT_FALLBACK, OURS)


def _passes(world: World, system: System, tests: Mapping[str, PooledProblem]) -> float:
    """Passes of the encoder that a query takes, averaged over the domains."""
    means = [
        ((system.weights(tests[name]) > 0) @ world.arms.passes).mean()
        for name in world.size.domains
    ]
    return round(1 + float(np.mean(means)), 2)


def _targets(figures: Figures) -> dict[str, Any]:
    """The targets of the study with arms of both kinds, against ever stronger comparisons."""
    each = (MULTITASK, WIDE, LORA_MULTITASK)
    return {
        "paper's router over LoRA experts": quality_targets(figures, each, PAPER_LORA),
        "paper's router over the better kind": quality_targets(figures, each, PAPER_BEST),
        "multi-task experts mixed": quality_targets(figures, MULTITASKS, PAPER_BEST),
    }

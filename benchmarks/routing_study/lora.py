"""LoRA experts beside linear ones, and a LoRA multi-task expert to be fair: first seed, merged."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.routing_study.confirming import WITHOUT_FALLBACK, unseen, with_oracle
from benchmarks.routing_study.experts import (
    FOLDER,
    GENERAL,
    Made,
    Workshop,
    digest,
    kept_as,
    with_negatives,
)
from benchmarks.routing_study.experts import WIDE as WIDE_ARM
from benchmarks.routing_study.measuring import alone
from benchmarks.routing_study.sets import Setting, Size
from benchmarks.routing_study.systems import (
    LORA,
    Arms,
    System,
    World,
    best_on_dev,
    describe,
    fixed,
    hard,
    pooled,
    router_queries,
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
from pgembed.contrastive import TrainingProblem
from pgembed.domain_heads import fit_linear_head
from pgembed.encoders import open_encoder
from pgembed.encoders.bank import AdapterBank
from pgembed.encoders.lora_files import lora_from_bytes, lora_to_bytes
from pgembed.heads import PilotHead
from pgembed.lora_expert import LoraExpert
from pgembed.lora_settings import LoraSettings
from pgembed.metrics import ndcg_of
from pgembed.model import Vectors
from pgembed.pilots import build_pilots
from pgembed.soft_fitting import PooledProblem
from pgembed.trained import Trained
from pgembed.training_data import held_out

console = Console()

STEPS = 400
DEV = 150
"""Queries of a domain that choose the step, at most: each look encodes them."""

RANK, ALPHA = 8, 32.0
GENERAL_RANK, GENERAL_ALPHA = 64, 90.5
"""Of the multi-task expert, about the size of all nine others: alpha grows with the root of the
rank (rsLoRA, arXiv 2312.03732)."""

LORA_MULTITASK = "S2 multi-task, LoRA"
MIXED_MULTITASK = "S2 multi-task, all and base mixed"
PAPER_LORA, PAPER_BEST = "S9 RouterRetriever, LoRA", "S9 RouterRetriever, better kind"
PAPER_DOMAIN = "S9 pilots by domain, better kind"
LOGISTIC = "S13 logistic, best arm"
ALL = "S16 utility, soft, all arms"
TWO = "S16 utility, soft, two arms at most"


def named(domain: str) -> str:
    """The LoRA arm of a domain, or of all."""
    return domain + LORA


def train_lora_expert(workshop: Workshop, name: str) -> Made[LoraExpert]:
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
    problems = [_problem(workshop, domain) for domain in domains]
    file = f"{named(name)}-{digest(problems, settings)}.safetensors"
    return kept_as(file, lambda: _train(problems, settings), lora_to_bytes, lora_from_bytes)


def _problem(workshop: Workshop, domain: str) -> TrainingProblem:
    """That of the linear expert, with anchors, and fewer queries to choose the step."""
    chooser = held_out(workshop.judged, domain)[1].sample(DEV)
    return replace(
        workshop.problems[domain],
        dev_queries=chooser.vectors,
        dev_relevant=chooser.relevant,
        dev_texts=chooser.texts,
        anchors=workshop.anchors,
    )


def _train(problems: Sequence[TrainingProblem], settings: LoraSettings) -> Trained[LoraExpert]:
    from pgembed.lora_training import train_lora

    mined = [with_negatives(each) for each in problems]
    return train_lora(mined, AdapterBank.open(open_encoder("minilm")), settings)


@dataclass(frozen=True, slots=True, eq=False)
class BothKinds:
    """The world with arms of both kinds, its systems, and their scores on test."""

    world: World
    systems: Mapping[str, System]
    scores: Mapping[str, Scores]
    result: dict[str, Any]


def both_kinds(workshop: Workshop, size: Size, merged: Setting, linear: World) -> BothKinds:
    """Train what is missing, fit routers over arms of both kinds, and measure them."""
    judged = workshop.judged
    made = {name: train_lora_expert(workshop, name) for name in (*size.domains, GENERAL)}
    arms = Arms(
        {**linear.arms.made, WIDE_ARM: workshop.general(0, wide=True)},
        {named(name): each.expert for name, each in made.items()},
    )
    dev = {n: pooled(judged.split(n, "dev"), n, merged, arms) for n in size.domains}
    world = replace(linear, arms=arms, dev=dev)
    systems = _systems(workshop, world)
    tests = {n: pooled(judged.split(n, "test"), n, merged, arms) for n in size.sets}
    figures = Figures(size, with_oracle(world, systems, tests), {})
    queries = unseen(judged, size)
    left = {n: pooled(each, n, merged, arms) for n, each in queries.items()}
    fewer = replace(
        size,
        domains=tuple(n for n in size.domains if n in left),
        without_expert=tuple(n for n in size.without_expert if n in left),
    )
    again = Figures(fewer, with_oracle(world, systems, left), {})
    result = {
        **_figures(figures),
        "targets": _targets(figures),
        "passes": {name: _passes(world, each, tests) for name, each in systems.items()},
        "unseen": _figures(again),
        "dataset_oracle": best_on_dev(world),
        "parameters": {n: each.about for n, each in systems.items() if n in FITTED},
        "training": {
            name: {key: getattr(each, key) for key in ("steps", "best_step", "seconds", "curve")}
            for name, each in made.items()
        },
    }
    return BothKinds(world, systems, figures.merged, result)


def _systems(workshop: Workshop, world: World) -> dict[str, System]:
    domains = world.size.domains
    best = {n: {arm: 1.0} for n, arm in best_on_dev(world).items()}
    return {
        BASE: single(heads.BASE),
        MULTITASK: single(GENERAL),
        WIDE: single(WIDE_ARM),
        LORA_MULTITASK: single(named(GENERAL)),
        MIXED_MULTITASK: _multitask(world),
        **{f"S4 expert {arm}": single(arm) for n in domains for arm in (n, named(n))},
        **_papers(workshop, world),
        LOGISTIC: hard(fit_linear_head("logistic", world.train, best), ""),
        **_kept(utility_system(world, fallback=False)),
        OURS: utility_system(world, fallback=True),
    }


def _kept(system: System) -> dict[str, System]:
    """A routed system, and the same with every arm, or with the two heaviest."""
    changes = {WITHOUT_FALLBACK: {}, ALL: {"minimum_share": 0.0}, TWO: {"top": 2}}
    parameters = system.router.parameters
    found = {}
    for name, change in changes.items():
        router = replace(system.router, parameters=replace(parameters, **change))
        found[name] = replace(system, router=router, about=json.dumps(describe(router)))
    return found


def _papers(workshop: Workshop, world: World) -> dict[str, System]:
    """RouterRetriever's router over linear experts, LoRA experts, and the better kind of each.

    Linear experts are scored cross-fitted, LoRA experts on queries that they were trained on, as
    in the paper. Pilots by domain depend on neither.
    """
    domains = world.arms.experts
    better = {n: _better(world.dev[n], n) for n in domains}
    linear = dict(world.fair)
    lora = {n: (Z, _lora_scores(workshop, world, n)) for n, (Z, _) in linear.items()}
    is_lora = np.asarray([better[n] == named(n) for n in domains])
    mixed = {n: (Z, np.where(is_lora, lora[n][1], own)) for n, (Z, own) in linear.items()}
    by_domain = {
        n: (Z, np.eye(len(domains))[[domains.index(n)] * len(Z)]) for n, (Z, _) in linear.items()
    }
    to_lora = {n: named(n) for n in domains}
    return {
        PAPER: hard(PilotHead(build_pilots(linear, domains)), ""),
        PAPER_LORA: _piloted(lora, to_lora),
        PAPER_BEST: _piloted(mixed, better),
        PAPER_DOMAIN: _piloted(by_domain, better),
    }


def _piloted(
    scored: Mapping[str, tuple[Vectors, NDArray[np.float64]]], arms: Mapping[str, str]
) -> System:
    """Pilots of domains' experts, each under the name of the arm that answers for it."""
    pilots = build_pilots(scored, sorted(arms))
    return hard(PilotHead([replace(pilot, expert=arms[pilot.expert]) for pilot in pilots]), "")


def _lora_scores(workshop: Workshop, world: World, name: str) -> NDArray[np.float64]:
    """nDCG@10 of a domain's training queries under the LoRA expert of each domain."""
    bank, domains = world.arms.bank, world.arms.experts
    assert bank is not None
    _, queries = router_queries(workshop, name)
    words = "".join(world.arms.loras[named(n)].sha256 for n in domains)
    file = FOLDER / f"{named(name)}-scores-{hashlib.sha256(words.encode()).hexdigest()[:16]}.npz"
    if not file.exists():
        states, rows = bank.start(queries.texts), range(len(queries))
        columns = [
            ndcg_of(
                bank.finish(states, rows, [named(n)] * len(queries)),
                workshop.judged.corpus,
                queries.relevant,
            )
            for n in domains
        ]
        np.savez(file, scores=np.column_stack(columns))
    with np.load(file) as known:
        scores: NDArray[np.float64] = known["scores"]
    return scores


def _better(dev: PooledProblem, domain: str) -> str:
    """The kind of a domain's expert that is better on dev."""
    means = alone(dev).mean(axis=1)
    kinds = (domain, named(domain))
    return max(kinds, key=lambda arm: float(means[dev.arms.index(arm)]))


def _multitask(world: World) -> System:
    """Base and the multi-task experts in the shares that are best on dev, steps of a tenth."""
    arms = (heads.BASE, GENERAL, WIDE_ARM, named(GENERAL))
    tenths = [t for t in itertools.product(range(11), repeat=len(arms)) if sum(t) == 10]
    shares = np.asarray(tenths) / 10
    reached = []
    for each in world.dev.values():
        weights = np.zeros((len(shares), len(each.problem.relevant), len(each.arms)))
        for column, arm in enumerate(arms):
            weights[:, :, each.arms.index(arm)] = shares[:, column, None]
        reached.append(each.ndcg(weights).mean(axis=1))
    best = shares[int(np.argmax(np.mean(reached, axis=0)))]
    chosen = {arm: float(share) for arm, share in zip(arms, best, strict=True) if share}
    return fixed(chosen, json.dumps(chosen))


MULTITASKS = (MULTITASK, WIDE, LORA_MULTITASK, MIXED_MULTITASK)
PAPERS = (PAPER, PAPER_LORA, PAPER_BEST, PAPER_DOMAIN)
OTHERS = (BASE, *MULTITASKS, *PAPERS, LOGISTIC, ALL, WITHOUT_FALLBACK, ORACLE)
FITTED = (MIXED_MULTITASK, ALL, TWO, WITHOUT_FALLBACK, OURS)


def _figures(figures: Figures) -> dict[str, Any]:
    """Means, and gains of the routed system, not corrected."""
    scores, size = figures.merged, figures.size
    return {
        "queries": {name: len(values) for name, values in scores[BASE].items()},
        "macro": {
            system: {
                "domains": round(figures.macro(system), 2),
                **(
                    {"without_expert": round(figures.macro(system, size.without_expert), 2)}
                    if size.without_expert
                    else {}
                ),
            }
            for system in scores
        },
        "sets": {
            system: {n: round(100 * float(v.mean()), 2) for n, v in found.items()}
            for system, found in scores.items()
        },
        "gains": {f"{OURS} - {other}": plain(figures.gain(OURS, other)) for other in OTHERS},
    }


def _passes(world: World, system: System, tests: Mapping[str, PooledProblem]) -> float:
    """Passes of the encoder that a query takes, averaged over the domains."""
    means = [
        ((system.weights(tests[name]) > 0) @ world.arms.passes).mean()
        for name in world.size.domains
    ]
    return round(1 + float(np.mean(means)), 2)


def _targets(figures: Figures) -> dict[str, Any]:
    """The targets of the study with arms of both kinds, against whom they are measured."""
    return {
        "LoRA alone, as in the paper": quality_targets(figures, (LORA_MULTITASK,), (PAPER_LORA,)),
        "the best of each": quality_targets(figures, MULTITASKS, PAPERS),
    }

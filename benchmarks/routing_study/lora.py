"""LoRA beside linear experts on some domains: what each reaches, and what both reach mixed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.routing_study.experts import FOLDER, Workshop, digest, with_negatives
from pgembed.encoders import open_encoder
from pgembed.encoders.bank import AdapterBank
from pgembed.encoders.lora_files import lora_from_bytes, lora_to_bytes
from pgembed.heads import BASE
from pgembed.judgments import JudgedQueries
from pgembed.lora_settings import LoraSettings
from pgembed.metrics import ndcg_of
from pgembed.model import Vectors
from pgembed.soft_fitting import PooledProblem, RoutingProblem, select_shares

console = Console()

LORA = "lora"


def lora_block(
    workshop: Workshop, domains: Sequence[str], settings: LoraSettings
) -> dict[str, Any]:
    """nDCG@10 on test, merged corpus, first seed: base, linear, LoRA, and their mixture.

    The mixtures of base and linear, with LoRA and without, are chosen on dev.
    """
    bank = AdapterBank.open(open_encoder("minilm"))
    return {name: _one(workshop, name, bank, settings) for name in domains}


def _one(
    workshop: Workshop, name: str, bank: AdapterBank, settings: LoraSettings
) -> dict[str, Any]:
    facts = _trained(workshop, name, bank, settings)
    arms = {name: workshop.expert(name, 0).expert}

    def vectors(queries: JudgedQueries) -> dict[str, Vectors]:
        states = bank.start(queries.texts)
        found = {arm: expert.apply(queries.vectors) for arm, expert in arms.items()}
        found[BASE] = queries.vectors
        found[LORA] = bank.finish(states, range(len(queries)), [name] * len(queries))
        return found

    judged = workshop.judged
    dev, test = (judged.split(name, split) for split in ("dev", "test"))
    on_dev, on_test = vectors(dev), vectors(test)
    without = {arm: each for arm, each in on_dev.items() if arm != LORA}
    result = {
        **{
            arm: _points(ndcg_of(each, judged.corpus, test.relevant))
            for arm, each in on_test.items()
        },
        "linear": 0.0,
        **facts,
    }
    result["linear"] = result.pop(name)
    for key, known in (("mixed", on_dev), ("mixed without LoRA", without)):
        problem = RoutingProblem(name, known, dev.relevant, judged.corpus)
        shares = select_shares(PooledProblem(problem))
        mixed = sum(share * on_test[arm] for arm, share in shares.items())
        mixed = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
        reached = ndcg_of(mixed.astype(np.float32), judged.corpus, test.relevant)
        result[key] = _points(reached)
        result[f"shares, {key}"] = {arm: round(share, 2) for arm, share in shares.items()}
    console.print(f"{name}: {result}")
    return result


def _trained(
    workshop: Workshop, name: str, bank: AdapterBank, settings: LoraSettings
) -> dict[str, Any]:
    """Put the LoRA expert of a domain into the bank, from its file or trained now."""
    from pgembed.lora_training import train_lora

    words = f"{name}-lora-{digest([workshop.problems[name]], settings)}"
    weights, about = FOLDER / f"{words}.safetensors", FOLDER / f"{words}.json"
    if not about.exists():
        problem = with_negatives(workshop.problems[name])
        few = replace(
            problem,
            dev_queries=problem.dev_queries[:150],
            dev_relevant=problem.dev_relevant[:150],
            dev_texts=problem.dev_texts[:150],
        )
        trained = train_lora([few], bank, settings)
        weights.write_bytes(lora_to_bytes(trained.expert))
        facts = {
            "steps": trained.steps,
            "best_step": trained.best_step,
            "seconds": round(trained.seconds),
            "curve": [[step, round(ndcg, 4)] for step, ndcg in trained.curve],
        }
        about.write_text(json.dumps(facts))
    bank.add(name, lora_from_bytes(weights.read_bytes()))
    found: dict[str, Any] = json.loads(about.read_text())
    return found


def _points(scores: Any) -> float:
    return round(100 * float(np.mean(scores)), 2)

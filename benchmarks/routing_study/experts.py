"""Experts of the study: trained once for each seed, kept in files, so that a run can go on."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from rich.console import Console

from pgembed.contrastive import TrainingProblem
from pgembed.descent import LinearSettings
from pgembed.judgments import JudgedCollection, JudgedQueries
from pgembed.linear import train_linear
from pgembed.linear_expert import LinearExpert
from pgembed.lora_expert import LoraExpert
from pgembed.metrics import ndcg_of, top_documents
from pgembed.server import default_home
from pgembed.trained import Trained
from pgembed.training_data import MINED_CHUNKS, held_out

console = Console()

FOLDER: Path = default_home().parent / "benchmark-experts"

GENERAL, WIDE = "general", "general_wide"
"""The multi-task expert: of an expert's rank, and of full rank, which is the most that all experts'
size can give it (first seed only)."""

RANK = 64
FULL_RANK = 384


Expert = TypeVar("Expert", LinearExpert, LoraExpert)


@dataclass(frozen=True, slots=True)
class Made(Generic[Expert]):
    """An expert of the study with what is reported of it."""

    name: str
    """With the digest of its training."""
    expert: Expert
    steps: int
    best_step: int
    seconds: float
    curve: list[list[float]]


@dataclass(frozen=True, slots=True, eq=False)
class Workshop:
    """Trains what is not there yet."""

    judged: JudgedCollection
    domains: tuple[str, ...]
    problems: dict[str, TrainingProblem]
    anchors: tuple[str, ...] = ()
    """Texts that LoRA experts leave where they are."""

    @classmethod
    def of(
        cls, judged: JudgedCollection, domains: Sequence[str], anchors: Sequence[str] = ()
    ) -> Workshop:
        """Read the training queries of every domain."""
        problems = {name: problem(judged, name) for name in domains}
        return cls(judged, tuple(domains), problems, tuple(anchors))

    def expert(self, name: str, seed: int) -> Made[LinearExpert]:
        """The expert of a domain."""
        settings = LinearSettings(rank=RANK, seed=seed)
        return self._made(name, [self.problems[name]], settings)

    def general(self, seed: int, *, wide: bool = False) -> Made[LinearExpert]:
        """The multi-task expert: all data, as many steps as all experts together."""
        count = len(self.domains)
        scale = math.sqrt(count)  # the trainer multiplies by the square root of the problems
        usual = LinearSettings(rank=min(RANK * count, FULL_RANK) if wide else RANK, seed=seed)
        settings = replace(
            usual,
            steps=round(usual.steps * scale),
            evaluate_every=round(usual.evaluate_every * scale),
        )
        problems = [self.problems[name] for name in self.domains]
        return self._made(WIDE if wide else GENERAL, problems, settings)

    def fold(self, name: str, seed: int, fold: int) -> Made[LinearExpert]:
        """The expert of a domain from one half of its training queries."""
        whole = self.problems[name]
        rows = [row for row in range(len(whole.queries)) if row % 2 == fold]
        half = replace(
            whole,
            queries=whole.queries[rows],
            positives=[whole.positives[row] for row in rows],
            mined=[()] * len(rows),
            texts=[whole.texts[row] for row in rows],
        )
        return self._made(f"{name}.{fold}", [half], LinearSettings(rank=RANK, seed=seed))

    def _made(
        self, name: str, problems: Sequence[TrainingProblem], settings: LinearSettings
    ) -> Made[LinearExpert]:
        def train() -> Trained[LinearExpert]:
            return train_linear([with_negatives(each) for each in problems], settings)

        return kept(f"{name}-{digest(problems, settings)}", train)


def kept(name: str, train: Callable[[], Trained[LinearExpert]]) -> Made[LinearExpert]:
    """What a file keeps under this name, or the training's result, which it then keeps."""
    return kept_as(
        f"{name}.expert",
        train,
        LinearExpert.to_bytes,
        lambda data: LinearExpert.from_bytes(data, FULL_RANK),
    )


def kept_as(
    file: str,
    train: Callable[[], Trained[Expert]],
    to_bytes: Callable[[Expert], bytes],
    from_bytes: Callable[[bytes], Expert],
) -> Made[Expert]:
    """The same for an expert of any kind."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    weights = FOLDER / file
    about, name = weights.with_suffix(".json"), weights.stem
    if not about.exists():
        trained = train()
        weights.write_bytes(to_bytes(trained.expert))
        facts = {
            "steps": trained.steps,
            "best_step": trained.best_step,
            "seconds": round(trained.seconds, 1),
            "curve": [[step, round(ndcg, 4)] for step, ndcg in trained.curve],
        }
        about.write_text(json.dumps(facts))
        console.print(f"{trained.seconds:6.1f} s  {name}: best step {trained.best_step}")
    return Made(name, from_bytes(weights.read_bytes()), **json.loads(about.read_text()))


def problem(judged: JudgedCollection, domain: str) -> TrainingProblem:
    """Training queries of a domain, 15 % of which choose the step; negatives are mined later."""
    train, chooser = held_out(judged, domain)
    return TrainingProblem(
        queries=train.vectors,
        positives=train.relevant,
        mined=[()] * len(train),
        corpus=judged.corpus,
        dev_queries=chooser.vectors[:300],
        dev_relevant=chooser.relevant[:300],
        name=domain,
        texts=train.texts,
        dev_texts=chooser.texts[:300],
    )


@cache
def with_negatives(problem: TrainingProblem) -> TrainingProblem:
    """The problem with the negatives that exact ranking of all documents mines."""
    top = top_documents(problem.queries, problem.corpus, MINED_CHUNKS)
    starts = problem.corpus.starts
    mined = [
        [int(starts[document]) for document in row if int(document) not in relevant]
        for row, relevant in zip(top, problem.positives, strict=True)
    ]
    return replace(problem, mined=mined)


def digest(problems: Sequence[TrainingProblem], settings: Any) -> str:
    """What a training follows from: its settings, queries, judgments and the corpus."""
    digest = hashlib.sha256(json.dumps(asdict(settings), sort_keys=True).encode())
    for each in problems:
        digest.update(each.name.encode())
        digest.update(json.dumps(each.texts).encode())
        digest.update(str(each.corpus.vectors.shape).encode())
        digest.update(json.dumps([sorted(row.items()) for row in each.positives]).encode())
        if each.anchors:
            digest.update(json.dumps([list(each.anchors), list(each.dev_texts)]).encode())
    return digest.hexdigest()[:16]


def scores_of(expert: LinearExpert, queries: JudgedQueries, judged: JudgedCollection) -> np.ndarray:
    """nDCG@10 of each query under an expert, by exact ranking of all documents."""
    return ndcg_of(expert.apply(queries.vectors), judged.corpus, queries.relevant)

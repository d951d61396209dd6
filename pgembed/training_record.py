"""The run record: how an expert came about, what it gains, and what got worse by it."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgembed.checkpoints import corpus_hash
from pgembed.contrastive import TrainingProblem, mining_counts
from pgembed.gating import GateDecision
from pgembed.judgments import JudgedQueries
from pgembed.metrics import ndcg_of
from pgembed.model import EncoderSpec, Vectors
from pgembed.trained import Trained
from pgembed.training_data import Part
from pgembed.training_kinds import Trainer

LIBRARIES: Mapping[str, Sequence[str]] = {
    "linear": ("pgembed-router", "numpy"),
    "lora": ("pgembed-router", "numpy", "torch"),
}
"""What the figures of a training depend on, for each kind."""


@dataclass(frozen=True, slots=True, eq=False)
class PartScores:
    """nDCG@10 of the dev queries of one domain, under the base and under the expert."""

    label: str
    base: NDArray[np.float64]
    expert: NDArray[np.float64]

    @property
    def gain(self) -> float:
        """Mean of expert less base."""
        return float(np.mean(self.expert - self.base))

    @property
    def figures(self) -> dict[str, Any]:
        """Means, for the record."""
        return {
            "base": round(float(self.base.mean()), 6),
            "expert": round(float(self.expert.mean()), 6),
            "gain": round(self.gain, 6),
            "queries": len(self.base),
        }


@dataclass(frozen=True, slots=True)
class Measured:
    """What an expert does to dev queries."""

    learned: Sequence[PartScores]
    """Of the domains that it learned from."""
    elsewhere: Sequence[PartScores]
    """Of the other domains of the same collections."""
    general: Sequence[PartScores]
    """Of what stands for queries in general, whether it is in one of the others or not."""

    @property
    def worse(self) -> dict[str, float]:
        """The domains that lose, with their change."""
        everywhere = {each.label: each for each in (*self.learned, *self.elsewhere, *self.general)}
        return {label: round(e.gain, 6) for label, e in everywhere.items() if e.gain < 0}

    @property
    def general_change(self) -> float | None:
        """Mean change of general queries, each domain counting alike; None where there are none."""
        return float(np.mean([each.gain for each in self.general])) if self.general else None


def scores_of(
    apply: Callable[[Any, JudgedQueries], Vectors], expert: Any, parts: Sequence[Part]
) -> list[PartScores]:
    """Score the dev queries of some domains by exact ranking.

    Args:
        apply: gives query vectors under an expert.
        expert: the expert.
        parts: domains with dev queries.
    """
    scores = []
    for part in parts:
        dev, corpus = part.dev, part.collection.corpus
        base, mapped = (
            ndcg_of(vectors, corpus, dev.relevant) for vectors in (dev.vectors, apply(expert, dev))
        )
        scores.append(PartScores(part.label, base, mapped))
    return scores


def run_record(
    encoder: EncoderSpec,
    trainer: Trainer,
    trained: Trained[Any],
    decision: GateDecision,
    problems: Sequence[TrainingProblem],
    parts: Sequence[Part],
    measured: Measured,
) -> dict[str, Any]:
    """All that is stored with an expert as its metrics.

    Args:
        encoder: that it was trained for.
        trainer: with its settings.
        trained: what the training returned.
        decision: of the gate.
        problems: what it was trained on.
        parts: the domains of ``problems``.
        measured: its scores on dev queries.
    """
    counts = [len(problem.positives) for problem in problems]
    return {
        "dev_ndcg_at_10": {
            each.label: {**each.figures, "train_queries": count}
            for each, count in zip(measured.learned, counts, strict=True)
        },
        "elsewhere": {each.label: each.figures for each in measured.elsewhere},
        "general": {each.label: each.figures for each in measured.general},
        "worse": measured.worse,
        "gate": {
            "accepted": decision.accepted,
            "reason": decision.reason,
            "general_change": measured.general_change,
        },
        "curve": [[step, round(ndcg, 6)] for step, ndcg in trained.curve],
        "losses": [[step, round(loss, 6)] for step, loss in trained.losses],
        "steps": trained.steps,
        "best_step": trained.best_step,
        "seconds": round(trained.seconds, 2),
        "settings": asdict(trainer.settings),
        "run": {
            "data": data_hash(encoder, parts),
            "sources": {part.collection.name: part.collection.origin for part in parts},
            "chunks": {part.collection.name: len(part.collection.corpus.vectors) for part in parts},
            "negatives": {
                part.label: mining_counts(problem, getattr(trainer.settings, "margin", None))
                for part, problem in zip(parts, problems, strict=True)
            },
            "versions": dict(_versions(trainer.kind)),
        },
    }


def data_hash(encoder: EncoderSpec, parts: Sequence[Part]) -> str:
    """sha256, hexadecimal, of what was learned from, in an order that does not depend on the rows.

    That is the encoder's fingerprint, the vectors of each collection, and the query, key and grade
    of each judgment of its training queries.
    """
    digest = hashlib.sha256(encoder.fingerprint.encode())
    corpora = {part.collection.name: part.collection.corpus for part in parts}
    for name, corpus in sorted(corpora.items()):
        digest.update(json.dumps([name, len(corpus.vectors), corpus_hash(corpus)]).encode())
    for row in sorted(row for part in parts for row in _judgments(part)):
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def _judgments(part: Part) -> Iterator[tuple[str, str, str, str, int]]:
    keys = part.collection.keys
    for text, grades in zip(part.train.texts, part.train.relevant, strict=True):
        for document, grade in grades.items():
            yield *part.key, text, keys[document], grade


def _versions(kind: str) -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    for library in LIBRARIES[kind]:
        try:
            yield library, version(library)
        except PackageNotFoundError:
            yield library, "unknown"

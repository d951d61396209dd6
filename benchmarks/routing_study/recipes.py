"""How experts could be trained otherwise: each way on some domains, judged on dev alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.routing_study.experts import RANK, Workshop, kept, scores_of, with_negatives
from benchmarks.routing_study.experts import digest as digest_of
from benchmarks.routing_study.lexical import Bm25, z_scores
from benchmarks.routing_study.sets import Size
from pgembed.contrastive import TrainingProblem
from pgembed.descent import LinearSettings
from pgembed.distillation import ListedScores
from pgembed.linear import train_linear
from pgembed.linear_expert import LinearExpert
from pgembed.metrics import best_of_chunks, ndcg_of
from pgembed.trained import Trained

console = Console()

DOMAINS = ("scifact", "nl2bash", "conala")

DEFAULT = LinearSettings(rank=RANK)

RECIPES: dict[str, LinearSettings] = {
    "as in the study": DEFAULT,
    "no anchor": replace(DEFAULT, anchor=0.0),
    "anchor 1": replace(DEFAULT, anchor=1.0),
    "full rank": replace(DEFAULT, rank=384, learning_rate=1e-3),
    "all chunks as negatives": replace(DEFAULT, negatives="corpus"),
    "256 queries a step": replace(DEFAULT, batch=256),
    "distilled, weight .3": replace(DEFAULT, distillation=0.3, teacher_temperature=1.0),
    "distilled, weight .7": replace(DEFAULT, distillation=0.7, teacher_temperature=1.0),
}

LISTED = 100
"""Documents of each training query that the teacher scores, of each of its two rankings."""


def recipes(workshop: Workshop, size: Size, domains: Sequence[str] = DOMAINS) -> dict[str, Any]:
    """nDCG@10 on dev, merged corpus, in points: on the expert's own domain, and on the others.

    The teacher is BM25 and the domain's own linear expert, z-scores in equal parts.
    """
    bm25 = Bm25(workshop.judged, size)
    dev = {name: workshop.judged.split(name, "dev") for name in workshop.domains}
    found: dict[str, Any] = {"base": {}}
    base = {
        n: ndcg_of(each.vectors, workshop.judged.corpus, each.relevant) for n, each in dev.items()
    }
    for name in domains:
        found["base"][name] = _row({n: 100 * float(each.mean()) for n, each in base.items()}, name)
        problem = with_negatives(workshop.problems[name])
        taught = replace(problem, teacher=teacher(workshop, name, bm25))
        for recipe, settings in RECIPES.items():
            learns = taught if settings.distillation else problem
            expert = _made(workshop, name, learns, settings)
            scores = {
                n: 100 * float(scores_of(expert, each, workshop.judged).mean())
                for n, each in dev.items()
            }
            found.setdefault(recipe, {})[name] = _row(scores, name)
            console.print(f"{name}, {recipe}: {found[recipe][name]}")
    return found


def _row(scores: dict[str, float], name: str) -> dict[str, float]:
    others = [value for domain, value in scores.items() if domain != name]
    return {"own": round(scores[name], 2), "others": round(float(np.mean(others)), 2)}


def _made(
    workshop: Workshop, name: str, problem: TrainingProblem, settings: LinearSettings
) -> LinearExpert:
    def train() -> Trained[LinearExpert]:
        return train_linear([problem], settings)

    return kept(f"{name}-{digest_of([workshop.problems[name]], settings)}", train).expert


def teacher(workshop: Workshop, name: str, bm25: Bm25) -> ListedScores:
    """What BM25 and the domain's own expert, fused, say of a domain's training queries."""
    problem, corpus = workshop.problems[name], workshop.judged.corpus
    vectors = workshop.expert(name, 0).expert.apply(problem.queries)
    lists = []
    for start in range(0, len(vectors), 50):
        texts = problem.texts[start : start + 50]
        lexical = bm25.scores(texts)
        dense = best_of_chunks(
            vectors[start : start + len(texts)] @ corpus.vectors.T, corpus.starts
        )
        for sparse, close in zip(lexical, dense, strict=True):
            pool = np.unique(
                np.concatenate(
                    [np.argpartition(-each, LISTED)[:LISTED] for each in (sparse, close)]
                )
            )
            fused = z_scores(sparse[pool]) + z_scores(close[pool])
            lists.append(
                {int(corpus.starts[d]): float(s) for d, s in zip(pool, fused, strict=True)}
            )
    return ListedScores.of(lists)

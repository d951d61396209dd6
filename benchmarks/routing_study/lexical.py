"""BM25 alone, and fused with dense systems: a block of its own, which no threshold uses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import read_set
from benchmarks.routing_study.sets import Size
from benchmarks.routing_study.systems import System
from pgembed.judgments import JudgedCollection, JudgedQueries
from pgembed.metrics import best_of_chunks, ideal_gain, ndcg_of_scorings

CANDIDATES = 100
ALPHAS = tuple(np.round(np.linspace(0, 1, 11), 1).tolist())
"""Weights of the dense score that are tried."""


class Bm25:
    """bm25s over the whole text of every document, k1 = 1.2, b = 0.75, English stemmer."""

    def __init__(self, judged: JudgedCollection, size: Size) -> None:
        import bm25s
        import Stemmer

        texts = {
            (name, document.id): f"{document.title} {document.body}"
            for name in size.sets
            for document in read_set(name).documents
        }
        corpus = [texts[tuple(json.loads(key))] for key in judged.keys]
        self._stemmer = Stemmer.Stemmer("english")
        self._tokenize = lambda each: bm25s.tokenize(
            each, stopwords="en", stemmer=self._stemmer, show_progress=False
        )
        self._index = bm25s.BM25(k1=1.2, b=0.75)
        self._index.index(self._tokenize(corpus), show_progress=False)

    def scores(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Score of every document for each text: (n, documents)."""
        words = self._tokenize(list(texts))
        names = {number: word for word, number in words.vocab.items()}
        rows = [self._index.get_scores([names[n] for n in row]) for row in words.ids]
        return np.asarray(rows, dtype=np.float32)


def lexical_block(
    judged: JudgedCollection,
    size: Size,
    systems: Mapping[str, System],
    vectors_of: Any,
    bm25: Bm25,
) -> dict[str, Any]:
    """nDCG@10 of BM25 and of convex fusions of z-scores, whose one weight is fitted on dev."""
    dev, test = (
        {
            name: _candidates(judged, judged.split(name, split), systems, vectors_of, bm25)
            for name in (size.domains if split == "dev" else size.sets)
        }
        for split in ("dev", "test")
    )
    found: dict[str, Any] = {"S0 BM25": {n: _mean(each["bm25"][0]) for n, each in test.items()}}
    for number, system in enumerate(systems):
        reached = [
            np.mean([each["fused"][number][row].mean() for each in dev.values()])
            for row in range(len(ALPHAS))
        ]
        best = int(np.argmax(reached))
        found[f"S19 {system} + BM25"] = {
            "dense_weight": ALPHAS[best],
            **{n: _mean(each["fused"][number][best]) for n, each in test.items()},
        }
    return found


def _candidates(
    judged: JudgedCollection,
    queries: JudgedQueries,
    systems: Mapping[str, System],
    vectors_of: Any,
    bm25: Bm25,
) -> dict[str, Any]:
    """nDCG@10 of each query under each weight, over the union of both arms' candidates."""
    fused = np.zeros((len(systems), len(ALPHAS), len(queries)))
    alone = np.zeros((1, len(queries)))
    corpus = judged.corpus
    vectors = {name: vectors_of(system, queries) for name, system in systems.items()}
    for start in range(0, len(queries), 50):
        rows = range(start, min(start + 50, len(queries)))
        lexical = bm25.scores([queries.texts[row] for row in rows])
        for number, name in enumerate(systems):
            dense = best_of_chunks(vectors[name][list(rows)] @ corpus.vectors.T, corpus.starts)
            for place, row in enumerate(rows):
                relevant = queries.relevant[row]
                pool = np.unique(np.concatenate([_top(dense[place]), _top(lexical[place])]))
                columns = {int(d): column for column, d in enumerate(pool)}
                known = {columns[d]: g for d, g in relevant.items() if d in columns}
                a, b = z_scores(dense[place][pool]), z_scores(lexical[place][pool])
                scores = np.stack([alpha * a + (1 - alpha) * b for alpha in ALPHAS])
                ideal = ideal_gain(relevant)
                fused[number, :, row] = ndcg_of_scorings(scores, known, ideal=ideal)
                if number == 0:
                    alone[0, row] = ndcg_of_scorings(b[None], known, ideal=ideal)[0]
    return {"fused": fused, "bm25": alone}


def _top(scores: NDArray[np.float32]) -> NDArray[np.intp]:
    return np.argpartition(-scores, CANDIDATES)[:CANDIDATES]


def z_scores(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scores less their mean, by their standard deviation."""
    wide = scores.astype(np.float64)
    scaled: NDArray[np.float64] = (wide - wide.mean()) / (wide.std() or 1.0)
    return scaled


def _mean(values: NDArray[np.float64]) -> float:
    return round(100 * float(values.mean()), 2)

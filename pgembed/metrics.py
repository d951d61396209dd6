"""Retrieval metrics as trec_eval computes them, and exact dense ranking to feed them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pgembed.errors import InputError
from pgembed.model import Vectors

BLOCK_BYTES = 64 * 2**20
"""Memory that one block of scores may take, in bytes."""


MANY_CHUNKS = 64
"""Chunks of one document above which a document is reduced at once, not chunk by chunk."""


def ndcg_at_k(ranked_grades: ArrayLike, ideal_grades: ArrayLike, k: int = 10) -> float:
    """Normalised discounted cumulative gain of one ranking.

    The gain is the grade itself, at least 0, discounted by log2(rank + 1): trec_eval's
    ``ndcg_cut``, after Järvelin and Kekäläinen (2002), "Cumulated gain-based evaluation of
    IR techniques".

    Args:
        ranked_grades: grade of each result, best rank first; 0 where there is no judgment.
        ideal_grades: every judged grade of the query, in any order.
        k: how many ranks count.

    Returns:
        A value from 0 to 1; 0 when nothing is relevant.
    """
    return float(ndcg_of_rankings(np.atleast_2d(ranked_grades), np.atleast_2d(ideal_grades), k)[0])


def ndcg_of_rankings(
    ranked_grades: ArrayLike, ideal_grades: ArrayLike, k: int = 10
) -> NDArray[np.float64]:
    """``ndcg_at_k`` of many queries at once.

    Args:
        ranked_grades: shape (n, m), one ranking a row, padded with 0.
        ideal_grades: shape (n, j), the judged grades of each query, padded with 0.
        k: how many ranks count.

    Returns:
        float64, shape (n,).
    """
    gains = _discounted_gain(np.asarray(ranked_grades, dtype=np.float64), k)
    best = _discounted_gain(-np.sort(-np.asarray(ideal_grades, dtype=np.float64), axis=1), k)
    return np.divide(gains, best, out=np.zeros_like(gains), where=best > 0)


def recall_at_k(ranked_grades: ArrayLike, ideal_grades: ArrayLike, k: int = 100) -> float:
    """Share of the relevant documents (grade above 0) that the first k results hold."""
    relevant = np.count_nonzero(np.asarray(ideal_grades) > 0)
    found = np.count_nonzero(np.asarray(ranked_grades)[:k] > 0)
    return float(found / relevant) if relevant else 0.0


def reciprocal_rank(ranked_grades: ArrayLike) -> float:
    """One over the rank of the first relevant result; 0 when there is none."""
    relevant = np.flatnonzero(np.asarray(ranked_grades) > 0)
    return float(1 / (relevant[0] + 1)) if relevant.size else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """The chunk vectors of a collection, grouped into documents.

    Raises:
        InputError: shapes do not fit, a vector is not finite, or the documents are not
            numbered 0, 1, 2, ... in the order of their chunks.
    """

    vectors: Vectors
    """float32, shape (m, dimensions), unit length: one chunk a row."""
    documents: NDArray[np.intp]
    """Shape (m,): the document of each chunk, ascending from 0 without gaps."""
    starts: NDArray[np.intp] = field(init=False, repr=False)
    """First chunk of each document, and m at the end: shape (size + 1,)."""

    def __post_init__(self) -> None:
        vectors = np.ascontiguousarray(self.vectors, dtype=np.float32)
        documents = np.asarray(self.documents, dtype=np.intp)
        if vectors.ndim != 2 or documents.shape != (len(vectors),) or not len(vectors):
            raise InputError(
                f"a corpus needs one document number for each chunk vector, "
                f"not shapes {vectors.shape} and {documents.shape}"
            )
        steps = np.diff(documents)
        if documents[0] != 0 or np.any((steps != 0) & (steps != 1)):
            raise InputError(
                "documents are not numbered 0, 1, 2, ... in the order of their chunks",
                hint="sort the chunks by document and use np.unique(..., return_inverse=True)",
            )
        if not np.isfinite(vectors).all():
            raise InputError("a chunk vector has a component that is not finite")
        starts = np.concatenate(([0], np.flatnonzero(steps) + 1, [len(documents)]))
        object.__setattr__(self, "vectors", vectors)
        object.__setattr__(self, "documents", documents)
        object.__setattr__(self, "starts", starts)

    @property
    def size(self) -> int:
        """Number of documents."""
        return len(self.starts) - 1


def document_scores(queries: Vectors, corpus: Corpus) -> NDArray[np.float32]:
    """Score every document by its best chunk.

    Args:
        queries: float32, shape (n, dimensions), unit length.
        corpus: what to rank.

    Returns:
        float32, shape (n, documents): the highest cosine similarity over a document's chunks.
    """
    return best_of_chunks(queries @ corpus.vectors.T, corpus.starts)


def best_of_chunks(scores: NDArray[np.floating], starts: NDArray[np.intp]) -> NDArray[np.floating]:
    """Reduce chunk scores (n, m) to document scores (n, documents) by their maximum."""
    lengths = np.diff(starts)
    if lengths.max(initial=1) > MANY_CHUNKS:
        return np.maximum.reduceat(scores, starts[:-1], axis=1)
    # Most documents have one chunk: comparing only the others' costs a quarter of a reduceat.
    best: NDArray[np.floating] = scores[:, starts[:-1]]
    for place in range(1, int(lengths.max(initial=1))):
        longer = np.flatnonzero(lengths > place)
        best[:, longer] = np.maximum(best[:, longer], scores[:, starts[longer] + place])
    return best


def top_documents(queries: Vectors, corpus: Corpus, k: int) -> NDArray[np.intp]:
    """Rank documents exactly; equal scores put the lower document number first.

    Args:
        queries: float32, shape (n, dimensions), unit length.
        corpus: what to rank.
        k: documents a query; fewer where the corpus is smaller.

    Returns:
        Document numbers, shape (n, min(k, documents)), best first.
    """
    k = min(k, corpus.size)
    rows = [_top_of_row(row, k) for _, block in _score_blocks(queries, corpus) for row in block]
    return np.asarray(rows, dtype=np.intp).reshape(len(queries), k)


def ndcg_of(
    queries: Vectors, corpus: Corpus, relevant: Sequence[Mapping[int, int]], k: int = 10
) -> NDArray[np.float64]:
    """Normalised discounted cumulative gain of each query by exact ranking.

    Only the ranks of relevant documents are computed: a comparison with all other scores each,
    which is cheaper than sorting. Equal scores put the lower document number first.

    Args:
        queries: float32, shape (n, dimensions), unit length.
        corpus: what to rank.
        relevant: grades by document number, one mapping for each query.
        k: how many ranks count.

    Returns:
        float64, shape (n,).

    Raises:
        InputError: queries and judgments differ in number, or a document is unknown.
    """
    if len(queries) != len(relevant):
        raise InputError(f"{len(queries)} queries have {len(relevant)} sets of judgments")
    check_documents(relevant, corpus.size)
    values = np.zeros(len(queries))
    for first, block in _score_blocks(queries, corpus):
        for number, row in enumerate(block, start=first):
            ideal = ideal_gain(relevant[number], k)
            values[number] = _gain_of_row(row, relevant[number], k) / ideal if ideal else 0.0
    return values


def ndcg_of_scorings(
    scores: NDArray[np.floating], relevant: Mapping[int, int], *, ideal: float, k: int = 10
) -> NDArray[np.float64]:
    """Normalised discounted cumulative gain of one query under many scorings of its candidates.

    Args:
        scores: shape (scorings, candidates); equal scores put the lower column first.
        relevant: grades by column, for the relevant candidates.
        ideal: what ``ideal_gain`` says of all the query's judgments.
        k: how many ranks count.

    Returns:
        float64, shape (scorings,).
    """
    gains = np.zeros(len(scores))
    for column, grade in relevant.items():
        own = scores[:, [column]]
        ranks = np.count_nonzero(scores > own, axis=1)
        ranks += np.count_nonzero(scores[:, :column] == own, axis=1)
        gains += np.where(ranks < k, max(grade, 0) / np.log2(ranks + 2), 0.0)
    return gains / ideal if ideal else gains


def ideal_gain(relevant: Mapping[int, int], k: int = 10) -> float:
    """Discounted cumulative gain of the best possible ranking of these grades."""
    grades = np.asarray(sorted(relevant.values(), reverse=True), dtype=np.float64)
    return float(_discounted_gain(grades[None, :], k)[0])


def check_documents(relevant: Sequence[Mapping[int, int]], size: int) -> None:
    """Raise InputError when a judgment names a document outside 0 to size - 1."""
    for number, judged in enumerate(relevant):
        unknown = next((document for document in judged if not 0 <= document < size), None)
        if unknown is not None:
            raise InputError(
                f"query {number} judges document {unknown}, "
                f"but documents are numbered 0 to {size - 1}"
            )


def _discounted_gain(grades: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    top = np.maximum(grades[:, :k], 0.0)
    gain: NDArray[np.float64] = top @ (1 / np.log2(np.arange(top.shape[1]) + 2))
    return gain


def _score_blocks(queries: Vectors, corpus: Corpus) -> Iterator[tuple[int, NDArray[np.float32]]]:
    rows = max(1, BLOCK_BYTES // (4 * (len(corpus.vectors) + corpus.size)))
    for first in range(0, len(queries), rows):
        yield first, document_scores(queries[first : first + rows], corpus)


def _top_of_row(scores: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    threshold = np.partition(scores, -k)[-k]
    candidates = np.flatnonzero(scores >= threshold)
    return candidates[np.argsort(-scores[candidates], kind="stable")[:k]]


def _gain_of_row(scores: NDArray[np.float32], relevant: Mapping[int, int], k: int) -> float:
    positive = [document for document, grade in relevant.items() if grade > 0]
    gain = 0.0
    for document in sorted(positive, key=lambda document: (-scores[document], document)):
        own = scores[document]
        # Counting what is not above makes a score that is not a number rank last, never first.
        rank = scores.size - np.count_nonzero(scores <= own)
        rank += np.count_nonzero(scores[:document] == own)
        if rank >= k:
            break
        gain += relevant[document] / float(np.log2(rank + 2))
    return gain

"""Contrastive batches over frozen documents: which candidates a query is trained against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pgembed.distillation import Teacher
from pgembed.errors import InputError
from pgembed.metrics import Corpus, check_documents
from pgembed.model import Vectors
from pgembed.ragged import Indices, Ragged, expand

__all__ = [
    "Batch",
    "Batches",
    "Indices",
    "Mask",
    "Negatives",
    "Ragged",
    "TrainingProblem",
    "expand",
    "mining_counts",
]

Negatives = Literal["sampled", "corpus"]
"""What a query is trained against: the batch's candidates, or every chunk of the corpus."""

Mask = Literal["mined", "all"]
"""Which candidates the margin masks: the batch's mined ones, or all."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingProblem:
    """Judged queries of one domain, with the base vectors of queries and documents.

    Raises:
        InputError: lengths differ, a query has no relevant document, or an index is unknown.
    """

    queries: Vectors
    """Training queries: float32, shape (n, dimensions), unit length."""
    positives: Sequence[Mapping[int, int]]
    """Grades by document number, for each training query; at least one above 0."""
    mined: Sequence[Sequence[int] | Indices]
    """Chunk rows that the base ranks high but nobody judged relevant, for each training query."""
    corpus: Corpus
    dev_queries: Vectors
    """float32, shape (q, dimensions), unit length; never trained on."""
    dev_relevant: Sequence[Mapping[int, int]]
    """Grades by document number, for each dev query."""
    name: str = ""
    """The domain."""
    texts: Sequence[str] = ()
    """The training queries as written: what an expert inside the encoder learns from."""
    dev_texts: Sequence[str] = ()
    """The dev queries as written."""
    anchors: Sequence[str] = ()
    """Texts that an expert inside the encoder should leave where they are: what it does not learn
    from."""
    teacher: Teacher | None = None
    """Scores of another ranking for the training queries, to learn from as soft labels."""

    def __post_init__(self) -> None:
        counts = (len(self.queries), len(self.positives), len(self.mined))
        if len(set(counts)) != 1 or not counts[0]:
            raise InputError(f"queries, positives and mined negatives differ in number: {counts}")
        if len(self.dev_queries) != len(self.dev_relevant) or not len(self.dev_queries):
            raise InputError(
                f"{len(self.dev_queries)} dev queries have {len(self.dev_relevant)} judgments"
            )
        if self.texts and (len(self.texts), len(self.dev_texts)) != (
            len(self.queries),
            len(self.dev_queries),
        ):
            raise InputError(
                f"{len(self.texts)} and {len(self.dev_texts)} texts belong to"
                f" {len(self.queries)} training and {len(self.dev_queries)} dev queries"
            )
        width = self.corpus.vectors.shape[1:]
        if self.queries.shape[1:] != width or self.dev_queries.shape[1:] != width:
            raise InputError(
                f"queries have shapes {self.queries.shape} and {self.dev_queries.shape}, "
                f"but chunk vectors {self.corpus.vectors.shape}"
            )
        check_documents(self.positives, self.corpus.size)
        check_documents(self.dev_relevant, self.corpus.size)
        for number, grades in enumerate(self.positives):
            if not any(grade > 0 for grade in grades.values()):
                raise InputError(f"training query {number} has no relevant document")


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Queries and the candidates that they share."""

    queries: Vectors
    """float32, shape (b, dimensions)."""
    candidates: Vectors
    """float32, shape (c, dimensions)."""
    targets: Indices
    """Shape (b,): the candidate that answers each query."""
    masked: NDArray[np.bool_]
    """Shape (b, c): candidates that take no part in a query's loss."""
    rows: Indices
    """Shape (b,): which training queries these are."""
    teacher: NDArray[np.floating] | None = None
    """Shape (b, c): the teacher's scores, where the problem has a teacher."""


@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """Draws batches from a problem: the positives, mined and random negatives of its queries."""

    problem: TrainingProblem
    size: int
    """Queries a batch; fewer where the problem has fewer."""
    mined: int
    """Mined negatives a query."""
    random: int
    """Random negatives a batch."""
    margin: float | None
    """Share of the positive's base similarity above which a candidate is masked; None: none is."""
    negatives: Negatives = "sampled"
    """With ``corpus`` every chunk is a candidate of every query, and nothing is sampled."""
    mask: Mask = "mined"
    """Candidates that the margin looks at."""
    documents: Ragged = field(init=False, repr=False)
    grades: NDArray[np.float64] = field(init=False, repr=False)
    hard: Ragged = field(init=False, repr=False)
    """Mined negatives of each query."""

    def __post_init__(self) -> None:
        judged = [{d: g for d, g in row.items() if g > 0} for row in self.problem.positives]
        grades = [float(grade) for row in judged for grade in row.values()]
        object.__setattr__(self, "documents", Ragged.of(judged))
        object.__setattr__(self, "grades", np.concatenate(([0.0], np.cumsum(grades))))
        object.__setattr__(self, "hard", Ragged.of(self.problem.mined))

    def draw(self, generator: np.random.Generator) -> Batch:
        """Draw queries without replacement and gather their candidates.

        Every chunk of a query's relevant documents is masked but the one to find. With a margin,
        a candidate is masked where it is too close to the positive in base similarity:
        TopK-PercPos of NV-Retriever (arXiv 2407.15831, section 4).
        """
        total = len(self.problem.queries)
        rows = generator.choice(total, min(self.size, total), replace=False)
        positives = self._positives(rows, generator)
        mined, candidates, vectors = self._candidates(rows, positives, generator)
        targets = np.searchsorted(candidates, positives)
        masked = self._relevant(rows, candidates)
        queries = self.problem.queries[rows]
        if self.margin is not None:
            among = self._guarded(candidates, targets, mined)
            close = _close(queries, vectors, targets, among, self.margin)
            masked[:, among] |= close & (self.mask == "all" or np.isin(candidates[among], mined))
        masked[np.arange(len(rows)), targets] = False
        teacher = self.problem.teacher
        scores = None if teacher is None else teacher(rows, candidates)
        return Batch(queries, vectors, targets, masked, rows, scores)

    def _candidates(
        self, rows: Indices, positives: Indices, generator: np.random.Generator
    ) -> tuple[Indices, Indices, Vectors]:
        """The batch's mined chunks, and its candidates, ascending, with their vectors."""
        vectors = self.problem.corpus.vectors
        if self.negatives == "corpus":
            # The matrix itself: gathering as many rows as it has would only copy it.
            return self.hard.take(rows)[1], np.arange(len(vectors)), vectors
        mined = self._mined(rows, generator)
        drawn = generator.integers(len(vectors), size=self.random)
        candidates = np.unique(np.concatenate((positives, mined, drawn)))
        return mined, candidates, vectors[candidates]

    def _guarded(self, candidates: Indices, targets: Indices, mined: Indices) -> Indices:
        """Columns, targets among them, whose base similarity the margin needs."""
        if self.negatives == "corpus" and self.mask == "mined":
            return np.unique(np.concatenate((targets, mined)))
        return np.arange(len(candidates))

    def _positives(self, rows: Indices, generator: np.random.Generator) -> Indices:
        """Draw a relevant document in proportion to its grade; its best chunk is the target."""
        corpus, starts = self.problem.corpus, self.documents.starts
        low, high = self.grades[starts[rows]], self.grades[starts[rows + 1]]
        drawn = np.searchsorted(
            self.grades, low + (high - low) * generator.random(len(rows)), side="right"
        )
        picked = self.documents.values[np.clip(drawn - 1, starts[rows], starts[rows + 1] - 1)]
        owners, chunks = expand(corpus.starts[picked], corpus.starts[picked + 1])
        scores = np.einsum("cd,cd->c", self.problem.queries[rows][owners], corpus.vectors[chunks])
        order = np.lexsort((-scores, owners))
        return chunks[order][np.searchsorted(owners, np.arange(len(rows)))]

    def _mined(self, rows: Indices, generator: np.random.Generator) -> Indices:
        owners, chunks = self.hard.take(rows)
        order = np.lexsort((generator.random(len(chunks)), owners))
        place = np.arange(len(chunks)) - np.searchsorted(owners, owners)
        return chunks[order][place < self.mined]

    def _relevant(self, rows: Indices, candidates: Indices) -> NDArray[np.bool_]:
        owners, documents = self.documents.take(rows)
        numbers = self.problem.corpus.documents[candidates]
        pairs, columns = expand(
            np.searchsorted(numbers, documents), np.searchsorted(numbers, documents, side="right")
        )
        masked = np.zeros((len(rows), len(candidates)), dtype=np.bool_)
        masked[owners[pairs], columns] = True
        return masked


def mining_counts(problem: TrainingProblem, margin: float | None) -> dict[str, int]:
    """How many negatives were mined, and how many of them the margin masks as false.

    Compared with the best chunk of a query's relevant documents, as a batch would.
    """
    hard = Ragged.of(problem.mined)
    relevant = Ragged.of(
        [document for document, grade in row.items() if grade > 0] for row in problem.positives
    )
    everyone = np.arange(len(problem.queries))
    owners, documents = relevant.take(everyone)
    pairs, chunks = expand(problem.corpus.starts[documents], problem.corpus.starts[documents + 1])
    best = np.full(len(everyone), -np.inf)
    np.maximum.at(best, owners[pairs], _similarities(problem, owners[pairs], chunks))
    owners, chunks = hard.take(everyone)
    close = _similarities(problem, owners, chunks) > (margin or 0.0) * best[owners]
    return {
        "mined": len(chunks),
        "masked": 0 if margin is None else int(close.sum()),
        "queries_without": len(everyone) - len(np.unique(owners)),
    }


def _similarities(problem: TrainingProblem, rows: Indices, chunks: Indices) -> Vectors:
    similarities: Vectors = np.einsum(
        "nd,nd->n", problem.queries[rows], problem.corpus.vectors[chunks]
    )
    return similarities


def _close(
    queries: Vectors, candidates: Vectors, targets: Indices, among: Indices, margin: float
) -> NDArray[np.bool_]:
    """Whether some of the candidates are closer to a query than margin times its target."""
    chosen = candidates if len(among) == len(candidates) else candidates[among]
    similarity = queries @ chosen.T
    limit = margin * similarity[np.arange(len(queries)), np.searchsorted(among, targets)]
    close: NDArray[np.bool_] = similarity > limit[:, None]
    return close

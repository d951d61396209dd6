"""Contrastive batches over frozen documents: which candidates a query is trained against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pgembed.errors import InputError
from pgembed.metrics import Corpus, check_documents
from pgembed.model import Vectors

Indices = NDArray[np.intp]


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


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of unequal length, end to end."""

    values: Indices
    starts: Indices
    """Where each row starts in ``values``, and the end of the last one."""

    @classmethod
    def of(cls, rows: Iterable[Iterable[int]]) -> Ragged:
        """Lay rows end to end."""
        lists = [np.fromiter(row, dtype=np.intp) for row in rows]
        starts = np.concatenate(([0], np.cumsum([len(row) for row in lists], dtype=np.intp)))
        return cls(np.concatenate(lists), starts)

    def take(self, rows: Indices) -> tuple[Indices, Indices]:
        """Values of some rows, and for each value the position of its row in ``rows``."""
        owners, places = expand(self.starts[rows], self.starts[rows + 1])
        return owners, self.values[places]


def expand(starts: Indices, ends: Indices) -> tuple[Indices, Indices]:
    """Write out half-open ranges: the number of the range and each integer in it."""
    lengths = ends - starts
    owners = np.repeat(np.arange(len(starts)), lengths)
    firsts = np.cumsum(lengths) - lengths
    return owners, np.arange(lengths.sum()) - (firsts - starts)[owners]


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
    """Largest share of the positive's base similarity that a mined negative may have."""
    documents: Ragged = field(init=False, repr=False)
    grades: NDArray[np.float64] = field(init=False, repr=False)
    negatives: Ragged = field(init=False, repr=False)

    def __post_init__(self) -> None:
        judged = [{d: g for d, g in row.items() if g > 0} for row in self.problem.positives]
        grades = [float(grade) for row in judged for grade in row.values()]
        object.__setattr__(self, "documents", Ragged.of(judged))
        object.__setattr__(self, "grades", np.concatenate(([0.0], np.cumsum(grades))))
        object.__setattr__(self, "negatives", Ragged.of(self.problem.mined))

    def draw(self, generator: np.random.Generator) -> Batch:
        """Draw queries without replacement and gather their candidates.

        Every chunk of a query's relevant documents is masked but the one to find. With a margin,
        a mined candidate is masked where it is too close to the positive in base similarity:
        TopK-PercPos of NV-Retriever (arXiv 2407.15831, section 4).
        """
        vectors = self.problem.corpus.vectors
        total = len(self.problem.queries)
        rows = generator.choice(total, min(self.size, total), replace=False)
        positives = self._positives(rows, generator)
        mined = self._mined(rows, generator)
        drawn = generator.integers(len(vectors), size=self.random)
        candidates = np.unique(np.concatenate((positives, mined, drawn)))
        targets = np.searchsorted(candidates, positives)
        masked = self._relevant(rows, candidates)
        queries, chunks = self.problem.queries[rows], vectors[candidates]
        if self.margin is not None:
            similarity = queries @ chunks.T
            limit = self.margin * similarity[np.arange(len(rows)), targets]
            masked |= np.isin(candidates, mined) & (similarity > limit[:, None])
        masked[np.arange(len(rows)), targets] = False
        return Batch(queries, chunks, targets, masked)

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
        owners, chunks = self.negatives.take(rows)
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

"""The nouns of pgembed as frozen values: nothing here talks to a database or a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
"""A matrix of vectors, one a row: float32, shape (n, dimensions)."""

Vector = NDArray[np.float32]
"""One vector: float32, shape (dimensions,)."""

Mode = Literal["soft", "hard", "base"] | str
"""How experts are chosen: mixed, the best one, none, or an expert's own name."""

Pooling = Literal["mean", "cls", "last", "graph"]
"""How token states become one vector; ``graph`` when the ONNX graph has done it."""


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """What defines a vector space; its fingerprint covers every field but name and source."""

    name: str
    fingerprint: str
    """sha256, hexadecimal, over graph, weights, tokenizer, pooling, prefixes and max tokens."""
    dimensions: int
    max_tokens: int
    """Longest input in tokens, special tokens and prefix included."""
    source: str
    """Where the model is found again: ``minilm``, a directory, or ``hf:owner/name``."""
    pooling: Pooling = "mean"
    query_prefix: str = ""
    document_prefix: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of one document's text: what is embedded."""

    number: int
    """Counted from 0 within the document."""
    start: int
    """First character in the document."""
    end: int
    """One past the last character."""
    content: str


@dataclass(frozen=True, slots=True)
class Collection:
    """A source table whose content is searchable."""

    name: str
    encoder: str
    source: str
    """Qualified and quoted name of the source table."""
    key_columns: tuple[str, ...]
    content_columns: tuple[str, ...]
    max_tokens: int
    """Longest chunk in tokens."""
    overlap: int
    """Tokens that neighbouring chunks share."""
    language: str


@dataclass(frozen=True, slots=True)
class Expert:
    """A query-side map in an encoder's space."""

    name: str
    encoder: str
    kind: str
    state: str
    domain: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """Which experts answer a query, and why."""

    mode: str
    weights: Mapping[str, float]
    """Weight of each expert that takes part, base included; they sum to 1."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """How well each expert, or each domain, fits the query, in the unit of the router's kind:
    similarity to pilots, log-probability up to a constant, or share of the neighbours."""
    reason: str = ""
    passes: float = 1.0
    """Passes through the encoder that the answer took: 1, and the share of its layers that each
    LoRA expert runs again."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result: a source row, found through its best chunk."""

    key: str
    """The source row's key as text; a composite key as a json array of texts."""
    rank: int
    score: float
    """What the hits are ordered by: cosine similarity, or the fused score of a hybrid search."""
    chunk_no: int
    content: str
    dense_score: float | None = None
    """Cosine similarity of the best chunk, less the penalty of what is excluded."""
    lexical_score: float | None = None
    """BM25 score; None unless the search is hybrid."""
    fields: Mapping[str, Any] | None = None
    """The columns of the source row that were asked for, as json has them."""
    cursor: Sequence[Any] = ()
    """Where the next page starts: ``after=hits[-1].cursor``."""


@dataclass(frozen=True, slots=True)
class Judgment:
    """How relevant a source row is to a query: a line of TREC's qrels."""

    query: str
    key: str
    grade: int = 1
    split: str = "train"
    domain: str = ""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one sync did to a collection."""

    collection: str
    documents: int = 0
    """Source rows brought up to date."""
    chunks: int = 0
    encoded: int = 0
    """Chunks that needed the encoder; the others kept their embedding."""
    failed: Sequence[tuple[str, str]] = ()
    """Key and reason of each source row that could not be embedded."""
    seconds: float = 0.0

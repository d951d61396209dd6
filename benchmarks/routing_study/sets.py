"""The judged sets of the study, in one collection of one database, and read back from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from benchmarks.data import Document, open_database, read_set, sampled
from benchmarks.vectors import embedded
from pgembed.collections import create_collection
from pgembed.database import Connection
from pgembed.encoders import open_encoder
from pgembed.judgments import JudgedCollection, JudgedQueries, add_judgments, read_judged
from pgembed.metrics import Corpus
from pgembed.model import Chunk, Vectors
from pgembed.syncing import sync

console = Console()

DOMAINS = (
    "scifact",
    "nl2bash",
    "cuad_clauses",
    "fin10k",
    "debatepedia",
    "nfcorpus_pre",
    "conala",
    "medquad",
    "wikitq",
)
"""Every set with at least 500 training and 300 test queries, but those near saturation
(clef_claims, quora_small), the one whose training queries are part of their documents (cosqa), and
the one whose queries do not say which item they are about, so that BM25 reaches 3 (subjqa)."""
WITHOUT_EXPERT = ("squad_sent", "wikiqa")
"""Domains that nobody trains on."""
TAINTED = ("scifact", "squad_sent", "wikiqa")
"""Sets that the base saw in training: queries with answers, or documents."""

QUICK_DOMAINS = ("scifact", "nl2bash", "conala")
QUICK_WITHOUT_EXPERT = ("wikiqa",)

COLLECTION = "study"
CHARACTERS = 600
"""Of a document that are embedded."""


@dataclass(frozen=True, slots=True)
class Size:
    """What is measured."""

    name: str
    domains: tuple[str, ...]
    without_expert: tuple[str, ...]
    train: int
    dev: int
    test: int
    """Queries of each set at most."""
    seeds: int

    @property
    def sets(self) -> tuple[str, ...]:
        """All sets."""
        return (*self.domains, *self.without_expert)


FULL = Size("full", DOMAINS, WITHOUT_EXPERT, train=12_000, dev=300, test=500, seeds=3)
QUICK = Size("quick", QUICK_DOMAINS, QUICK_WITHOUT_EXPERT, train=1500, dev=200, test=300, seeds=1)


class RememberingEncoder:
    """The base encoder with the vectors that files have kept, so that loading takes a minute."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        self._encoder = open_encoder("minilm")
        self._known = known
        self.spec = self._encoder.spec

    def chunk(self, text: str, **bounds: Any) -> list[Chunk]:
        """Cut as the encoder does."""
        return self._encoder.chunk(text, **bounds)

    def encode_document(self, texts: Sequence[str], **options: Any) -> Vectors:
        """Known vectors; the others are encoded."""
        vectors = np.empty((len(texts), self.spec.dimensions), dtype=np.float32)
        new = [row for row, text in enumerate(texts) if text not in self._known]
        for row, text in enumerate(texts):
            if text in self._known:
                vectors[row] = self._known[text]
        if new:
            vectors[new] = self._encoder.encode_document([texts[row] for row in new], **options)
        return vectors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)


def open_study(url: str, size: Size, *, fresh: bool) -> Connection:
    """The database of the study, loaded: one table, one collection, a domain for each set."""
    name = f"pgembed_study_{size.name}"
    try:
        connection = open_database(url, name, fresh=fresh)
        done = connection.execute("select count(*) from pgembed.judgment").fetchone()
        assert done is not None
        if done[0]:
            return connection
        connection.close()
    except Exception as error:  # an unreleased schema changes in place
        console.print(f"Loading again, since the schema does not upgrade: {error}")
    connection = open_database(url, name, fresh=True)
    _load(connection, size)
    return connection


def _load(connection: Connection, size: Size) -> None:
    connection.execute(
        "create table documents (set text, id text, body text, primary key (set, id))"
    )
    known: dict[str, Any] = {}
    for name in size.sets:
        documents = read_set(name).documents
        texts = [embedded_text(document) for document in documents]
        known.update(zip(texts, embedded(name, texts), strict=True))
        with (
            connection.cursor() as cursor,
            cursor.copy("copy documents (set, id, body) from stdin") as copy,
        ):
            for document, text in zip(documents, texts, strict=True):
                copy.write_row((name, document.id, text))
    create_collection(
        connection, COLLECTION, source="documents", content=["body"], encoder="minilm"
    )
    with Progress(console=console) as progress:
        task = progress.add_task("Loading vectors", total=None)
        sync(
            connection,
            COLLECTION,
            encoder=RememberingEncoder(known),  # type: ignore[arg-type]
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    for name in size.sets:
        key = f'["{name}", {{}}]'
        limits = {"train": size.train, "dev": size.dev, "test": size.test}
        if name in size.without_expert:
            limits |= {"train": 1, "dev": 1}
        add_judgments(
            connection,
            COLLECTION,
            [j for j in sampled(read_set(name), key, **limits) if _belongs(j.split, name, size)],
        )
    connection.execute("vacuum (analyze)")


def _belongs(split: str, name: str, size: Size) -> bool:
    return split == "test" or name not in size.without_expert


def embedded_text(document: Document) -> str:
    """What is embedded of a document."""
    return f"{document.title} {document.body}".strip()[:CHARACTERS] or "."


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """The corpora that queries are answered from: all documents, or each set's own."""

    name: str
    corpora: Mapping[str, tuple[Corpus, Mapping[int, int] | None]]
    """For each set its corpus, and the number there of each merged document; None if the same."""

    def relevant(self, name: str, queries: JudgedQueries) -> list[dict[int, int]]:
        """Grades of a set's queries by document number in this setting."""
        numbers = self.corpora[name][1]
        if numbers is None:
            return [dict(each) for each in queries.relevant]
        return [{numbers[d]: g for d, g in each.items()} for each in queries.relevant]


def read_study(connection: Connection) -> JudgedCollection:
    """Vectors and judgments as the database has them."""
    with Progress(console=console) as progress:
        task = progress.add_task("Reading vectors, encoding queries", total=None)
        return read_judged(
            connection,
            COLLECTION,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )


def settings_of(judged: JudgedCollection, size: Size) -> tuple[Setting, Setting]:
    """Merged, and per domain: the same chunks and vectors in both."""
    owners = np.asarray([json.loads(key)[0] for key in judged.keys])
    return (
        Setting("merged", dict.fromkeys(size.sets, (judged.corpus, None))),
        Setting("per_domain", {name: _part(judged, owners == name) for name in size.sets}),
    )


def _part(judged: JudgedCollection, mine: NDArray[np.bool_]) -> tuple[Corpus, dict[int, int]]:
    rows = mine[judged.corpus.documents]
    numbers = {int(document): number for number, document in enumerate(np.flatnonzero(mine))}
    documents = np.asarray([numbers[int(d)] for d in judged.corpus.documents[rows]])
    return Corpus(judged.corpus.vectors[rows], documents), numbers

"""Judgments in the database: load, read back with vectors, split by a seeded hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, LiteralString, get_args

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector, Vector

from pgembed.collections import search_target
from pgembed.database import Connection, rows_of, translated
from pgembed.encoders import Encoder
from pgembed.errors import InputError, TrainingError
from pgembed.metrics import Corpus
from pgembed.model import Judgment, Vectors
from pgembed.registry import matching_encoder

DEV_SHARE = 0.2
"""Share of the training queries that serves as dev in a domain without a dev split."""

SPLITS = ("train", "dev", "test")

LARGEST_GRADE = 2**31 - 1
"""What a PostgreSQL integer holds."""

QUERIES: Mapping[Origin, LiteralString] = {
    "judgments": "select domain, split, query, key, grade from pgembed.judgment"
    " where collection = %s and grade > 0",
    "clicks": "select domain, split, query, key, grade from pgembed.click_judgments(%s)"
    " where grade > 0",
}
"""Positive judgments of a collection, from either source."""

HINTS: Mapping[Origin, str] = {
    "judgments": "Insert some into pgembed.judgment, and run pgembed sync before.",
    "clicks": "Log what is clicked with pgembed.log_click, or train from judgments.",
}
"""What to do where a source has nothing."""

ENCODE_BLOCK = 2000
"""Queries that are encoded and cached at once: what an interruption can lose."""

Origin = Literal["judgments", "clicks"]
"""Where judgments come from: ``pgembed.judgment``, or the log of clicks."""

Progress = Callable[[int, int], None]

Grades = dict[tuple[str, str, str], dict[int, int]]
"""Positive grades by document number, for each domain, split and query."""


@dataclass(frozen=True, slots=True, eq=False)
class JudgedQueries:
    """The judged queries of one domain and split."""

    texts: tuple[str, ...]
    vectors: Vectors
    """Base embeddings: float32, shape (n, dimensions), unit length."""
    relevant: tuple[Mapping[int, int], ...]
    """Grades above 0 by document number, for each query."""

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> JudgedQueries:
        """Some of the queries, in the given order."""
        return JudgedQueries(
            tuple(self.texts[row] for row in rows),
            self.vectors[np.asarray(rows, dtype=np.intp)],
            tuple(self.relevant[row] for row in rows),
        )

    def sample(self, at_most: int) -> JudgedQueries:
        """At most so many, ordered by a seeded hash: any first ones are a sample, too."""
        rows = sorted(range(len(self)), key=lambda row: seeded_share(self.texts[row]))
        return self.take(rows[:at_most])


@dataclass(frozen=True, slots=True, eq=False)
class JudgedCollection:
    """A collection's vectors and judgments, read into memory."""

    name: str
    encoder: str
    corpus: Corpus
    keys: tuple[str, ...]
    """Key of each document."""
    rows: Mapping[tuple[str, int], int]
    """Row in ``corpus.vectors`` of each key and chunk number."""
    queries: Mapping[tuple[str, str], JudgedQueries]
    """By domain and split."""
    origin: Origin = "judgments"

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains with judged queries, sorted."""
        return tuple(sorted({domain for domain, _ in self.queries}))

    def split(self, domain: str, name: str) -> JudgedQueries:
        """The queries of a domain and split, none where there are no judgments."""
        empty = JudgedQueries((), np.zeros((0, self.corpus.vectors.shape[1]), np.float32), ())
        return self.queries.get((domain, name), empty)


def add_judgments(connection: Connection, collection: str, judgments: Iterable[Judgment]) -> int:
    """Insert judgments, or replace those of the same query and key; nothing is committed here.

    Returns:
        How many judgments there are now of the given ones; of two for the same query and key the
        last counts.

    Raises:
        NotFoundError: no such collection.
        InputError: a query is blank, or a split is none of train, dev and test.
    """
    judgments = [_checked(judgment) for judgment in judgments]
    last = {(j.query, j.key): j for j in judgments}
    rows = [(j.query, j.key, j.grade, j.split, j.domain) for j in last.values()]
    columns = list(zip(*rows, strict=True)) or [()] * 5
    with translated():
        connection.execute("select pgembed.collection_named(%s)", (collection,))
        connection.execute(
            "insert into pgembed.judgment (collection, query, key, grade, split, domain)"
            " select %s, j.* from"
            " unnest(%s::text[], %s::text[], %s::int[], %s::text[], %s::text[]) as j"
            " on conflict on constraint judgment_pkey do update"
            " set grade = excluded.grade, split = excluded.split, domain = excluded.domain",
            (collection, *[list(column) for column in columns]),
        )
    return len(rows)


def _checked(judgment: Judgment) -> Judgment:
    if not judgment.query.strip():
        raise InputError(f"the query of the judgment of key {judgment.key!r} is blank")
    if judgment.split not in SPLITS:
        raise InputError(
            f"split {judgment.split!r} of query {judgment.query!r:.100} is unknown",
            hint=f"Splits are {', '.join(SPLITS)}.",
        )
    if judgment.grade != int(judgment.grade) or abs(judgment.grade) > LARGEST_GRADE:
        raise InputError(f"grade {judgment.grade} of query {judgment.query!r:.100} is no integer")
    return judgment


def read_judged(
    connection: Connection,
    collection: str,
    *,
    encoder: Encoder | None = None,
    source: Origin = "judgments",
    on_progress: Progress | None = None,
) -> JudgedCollection:
    """Read the vectors of a collection and its judged queries; queries are encoded once and cached.

    With ``source="clicks"`` the judgments are what ``pgembed.click_judgments`` makes of the log of
    clicks, instead of the rows of ``pgembed.judgment``: without the queries that these rows have in
    the split test, and without training queries that they have in the split dev.

    A domain without a dev split gets one: 20 % of its training queries, by a hash of their text.
    A query that is in several splits, of whatever domain, counts only in the last of train, dev
    and test, so that nothing is learned from what is measured.

    Raises:
        NotFoundError: no such collection.
        TrainingError: the collection has no chunks, or no judgment of a row that it holds.
        InputError: there is no such source.
    """
    if source not in get_args(Origin):
        raise InputError(f"source {source!r} is none of {', '.join(get_args(Origin))}")
    target = search_target(connection, collection)
    name = target.collection.encoder
    keys, corpus, rows = _read_corpus(connection, collection, target.dimensions)
    judged = _read_judgments(connection, collection, source, {k: n for n, k in enumerate(keys)})
    if not judged:
        raise TrainingError(
            f"collection {collection!r} has no {source} of rows that are embedded",
            hint=HINTS[source],
        )
    texts = sorted({text for _, _, text in judged})
    model = matching_encoder(connection, name, target.fingerprint, encoder)
    vectors = dict(
        zip(texts, encode_cached(connection, model, name, texts, on_progress), strict=True)
    )
    queries: dict[tuple[str, str], dict[str, dict[int, int]]] = {}
    for (domain, split, text), found in sorted(_in_one_split(_with_dev(judged)).items()):
        queries.setdefault((domain, split), {})[text] = found
    return JudgedCollection(
        collection,
        name,
        corpus,
        keys,
        rows,
        {
            (domain, split): JudgedQueries(
                tuple(texts),
                np.stack([vectors[text] for text in texts]),
                tuple(texts.values()),
            )
            for (domain, split), texts in queries.items()
        },
        source,
    )


def encode_cached(
    connection: Connection,
    model: Encoder,
    encoder: str,
    texts: Sequence[str],
    on_progress: Progress | None = None,
) -> Vectors:
    """Base embeddings of queries, from ``pgembed.query_cache`` where they are there already.

    Returns:
        float32, shape (n, dimensions), in the order of ``texts``.
    """
    hashes = [hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() for text in texts]
    with translated():
        found = rows_of(
            connection,
            "select replace(query_hash::text, '-', ''), pgembed.vector_bytes(embedding)"
            " from pgembed.query_cache where encoder = %s and query_hash = any (%s::uuid[])",
            (encoder, hashes),
            binary=True,
        )
    vectors = {digest: Vector.from_binary(data).to_numpy() for digest, data in found}
    missing = [n for n, digest in enumerate(hashes) if digest not in vectors]
    for start in range(0, len(missing), ENCODE_BLOCK):
        block = missing[start : start + ENCODE_BLOCK]
        encoded = model.encode_query([texts[n] for n in block])
        _cache(connection, encoder, [hashes[n] for n in block], encoded)
        vectors.update(zip([hashes[n] for n in block], encoded, strict=True))
        if on_progress:
            on_progress(start + len(block), len(missing))
    shape = (len(texts), model.spec.dimensions)
    return np.asarray([vectors[digest] for digest in hashes], dtype=np.float32).reshape(shape)


def seeded_share(text: str, *, seed: int = 0) -> float:
    """A number in [0, 1) that depends on the text and the seed alone: what splits are cut by."""
    digest = hashlib.sha256(f"{seed}\0{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _cache(connection: Connection, encoder: str, hashes: Sequence[str], vectors: Vectors) -> None:
    with translated(), connection.cursor() as cursor:
        cursor.executemany(
            "insert into pgembed.query_cache (encoder, query_hash, embedding)"
            " values (%s, %s::uuid, pgembed.as_vector(%b::real[])) on conflict do nothing",
            [(encoder, digest, row.tolist()) for digest, row in zip(hashes, vectors, strict=True)],
        )


def _read_corpus(
    connection: Connection, collection: str, dimensions: int
) -> tuple[tuple[str, ...], Corpus, dict[tuple[str, int], int]]:
    with translated():
        chunks = rows_of(
            connection,
            "select key, chunk_no, pgembed.halfvec_bytes(embedding) from pgembed.chunks(%s)",
            (collection,),
            binary=True,
        )
    if not chunks:
        raise TrainingError(
            f"collection {collection!r} holds no embeddings yet", hint="Run pgembed sync first."
        )
    vectors = np.empty((len(chunks), dimensions), dtype=np.float32)
    for row, (_, _, embedding) in enumerate(chunks):
        vectors[row] = HalfVector.from_binary(embedding).to_numpy()
    keys = tuple(dict.fromkeys(key for key, _, _ in chunks))
    numbers = {key: number for number, key in enumerate(keys)}
    documents = np.asarray([numbers[key] for key, _, _ in chunks], dtype=np.intp)
    rows = {(key, chunk_no): row for row, (key, chunk_no, _) in enumerate(chunks)}
    return keys, Corpus(vectors, documents), rows


def _read_judgments(
    connection: Connection, collection: str, source: Origin, numbers: Mapping[str, int]
) -> Grades:
    judged: Grades = {}
    with translated():
        rows = rows_of(connection, QUERIES[source], (collection,))
    for domain, split, query, key, grade in rows:
        if key in numbers:
            judged.setdefault((domain, split, query), {})[numbers[key]] = grade
    return judged


def _with_dev(judged: Grades) -> Grades:
    """Grades by domain, split and query, with a dev split cut from train where there is none."""
    with_dev = {domain for domain, split, _ in judged if split == "dev"}
    return {
        (domain, "dev" if _moves(split, text) and domain not in with_dev else split, text): grades
        for (domain, split, text), grades in judged.items()
    }


def _in_one_split(judged: Grades) -> Grades:
    """The same without queries of train that dev or test asks, and of dev that test asks."""
    asked: dict[str, set[str]] = {split: set() for split in SPLITS}
    for _, split, text in judged:
        asked[split].add(text)
    later = {"train": asked["dev"] | asked["test"], "dev": asked["test"], "test": set[str]()}
    return {row: grades for row, grades in judged.items() if row[2] not in later[row[1]]}


def _moves(split: str, text: str) -> bool:
    return split == "train" and seeded_share(text) < DEV_SHARE


def one_encoder(judged: Sequence[JudgedCollection]) -> str:
    """Name of the encoder that all these collections have.

    Raises:
        TrainingError: they have several, or there is no collection.
    """
    names = sorted({collection.encoder for collection in judged})
    if len(names) != 1:
        raise TrainingError(
            f"the collections have encoders {names}; an expert lives in the space of one"
        )
    return names[0]

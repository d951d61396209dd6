"""What experts learn from and are measured on: judged domains, and training problems of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pgembed.contrastive import TrainingProblem
from pgembed.database import Connection, rows_of, translated
from pgembed.errors import TrainingError
from pgembed.judgments import JudgedCollection, JudgedQueries, seeded_share

MINED_CHUNKS = 30
"""Nearest chunks of a training query that its hard negatives are drawn from."""

HELD_OUT = 0.15
"""Share of the training queries that choose the training step, so that the gate's dev queries have
chosen nothing: gated on the queries that chose the step, experts pass that do not help on test."""

HELD_OUT_SEED = 2


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The judged queries of one domain of one collection."""

    collection: JudgedCollection
    domain: str
    label: str
    """The domain; after its collection's name where several have it, that name where it is ''."""

    @property
    def key(self) -> tuple[str, str]:
        """Names of collection and domain."""
        return self.collection.name, self.domain

    @property
    def train(self) -> JudgedQueries:
        """The training queries."""
        return self.collection.split(self.domain, "train")

    @property
    def dev(self) -> JudgedQueries:
        """The dev queries."""
        return self.collection.split(self.domain, "dev")


def parts_of(collections: Sequence[JudgedCollection]) -> list[Part]:
    """The domains of some collections, a collection that is named twice once."""
    distinct = {collection.name: collection for collection in collections}.values()
    shared = Counter(domain for collection in distinct for domain in collection.domains)
    return [
        Part(collection, domain, _label(collection.name, domain, shared[domain]))
        for collection in distinct
        for domain in collection.domains
    ]


def _label(collection: str, domain: str, count: int) -> str:
    if not domain:
        return collection
    return f"{collection}/{domain}" if count > 1 else domain


def learned_parts(parts: Sequence[Part], domain: str | None) -> list[Part]:
    """The domains to learn from: the one that is asked for, or all that have enough.

    Raises:
        TrainingError: there are no training queries.
    """
    learned = [part for part in parts if domain in (None, part.domain) and len(part.train)]
    if not learned:
        places = ", ".join(repr(name) for name in sorted({name for name, _ in _keys(parts)}))
        raise TrainingError(
            f"there are no training queries of domain {domain!r} in {places}",
            hint="Judgments need split 'train' and rows that are embedded.",
        )
    return [
        each for each in learned if domain is not None or _enough(each.collection, each.domain)
    ] or learned


def other_parts(parts: Sequence[Part], learned: Sequence[Part]) -> list[Part]:
    """Domains with dev queries that the expert does not learn from."""
    known = _keys(learned)
    return [part for part in parts if part.key not in known and len(part.dev)]


def general_parts(
    parts: Sequence[Part], learned: Sequence[Part], general: Sequence[str]
) -> list[Part]:
    """What stands for queries in general: queries without a domain, and collections by name.

    Queries without a domain are left out where the expert learns from them alone: the gate asks
    a gain of them already.

    Args:
        parts: of the collections that are learned from, and of those in ``general``.
        learned: what the expert learns from.
        general: names of collections.

    Raises:
        TrainingError: a collection of ``general`` has no dev queries.
    """
    alone = _keys(learned) if not any(part.domain for part in learned) else set()
    found = [
        part
        for part in parts
        if len(part.dev)
        and (part.collection.name in general or (not part.domain and part.key not in alone))
    ]
    if missing := set(general) - {name for name, _ in _keys(found)}:
        raise TrainingError(
            f"collection {min(missing)!r} stands for queries in general, but has no dev queries",
            hint="Give some of its judgments the split 'dev'.",
        )
    return found


def _keys(parts: Sequence[Part]) -> set[tuple[str, str]]:
    return {part.key for part in parts}


def training_problem(
    connection: Connection, judged: JudgedCollection, domain: str, *, anchors: Sequence[str] = ()
) -> TrainingProblem:
    """The training queries of a domain, with hard negatives from the collection's own index.

    A seeded 15 % of them are held out to choose the training step.

    Args:
        connection: the caller's; nothing is written.
        judged: the collection.
        domain: of its judgments.
        anchors: texts that a LoRA expert should leave where they are, as ``anchor_texts`` finds
            them; without any, nothing holds it.

    Raises:
        TrainingError: the domain has no dev queries, or too few training queries.
    """
    train, chooser = held_out(judged, domain)
    if not _enough(judged, domain):
        raise TrainingError(
            f"domain {domain!r} of collection {judged.name!r} has"
            f" {len(judged.split(domain, 'train'))} training and"
            f" {len(judged.split(domain, 'dev'))} dev queries: too few",
            hint="Some dozens of each are the least; the gate decides on those of split 'dev'.",
        )
    return TrainingProblem(
        queries=train.vectors,
        positives=train.relevant,
        mined=mine_negatives(connection, judged, train),
        corpus=judged.corpus,
        dev_queries=chooser.vectors,
        dev_relevant=chooser.relevant,
        name=domain,
        texts=train.texts,
        dev_texts=chooser.texts,
        anchors=anchors,
    )


def anchor_texts(connection: Connection, collection: str) -> tuple[str, ...]:
    """Parts of a sample of a collection's texts: what a LoRA expert should leave where it is.

    Blank ones are left out: no encoder takes them.
    """
    with translated():
        rows = rows_of(connection, "select pgembed.sample_texts(%s)", (collection,))
    return tuple(text for (text,) in rows if text.strip())


def held_out(judged: JudgedCollection, domain: str) -> tuple[JudgedQueries, JudgedQueries]:
    """The training queries of a domain: those that train, and those that choose the step."""
    queries = judged.split(domain, "train")
    # Another seed than that of the dev split: what was left there would never be held out here.
    held_out = np.asarray(
        [seeded_share(t, seed=HELD_OUT_SEED) < HELD_OUT for t in queries.texts], dtype=bool
    )
    return queries.take(np.flatnonzero(~held_out)), queries.take(np.flatnonzero(held_out))


def _enough(judged: JudgedCollection, domain: str) -> bool:
    """Whether a domain has queries to train on, to choose the step, and for the gate."""
    return all(map(len, (*held_out(judged, domain), judged.split(domain, "dev"))))


def mine_negatives(
    connection: Connection, judged: JudgedCollection, queries: JudgedQueries
) -> list[list[int]]:
    """Chunk rows near each query by the collection's own index, relevant documents left out."""
    with translated():
        near = rows_of(
            connection,
            "select query_no, key, chunk_no from pgembed.nearest_chunks(%s,"
            " array(select md5(t.text)::uuid from unnest(%s::text[]) with ordinality as t (text, n)"
            " order by t.n), %s)",
            (judged.name, list(queries.texts), MINED_CHUNKS),
            binary=True,
        )
    mined: list[list[int]] = [[] for _ in queries.texts]
    for query_no, key, chunk_no in near:
        row = judged.rows.get((key, chunk_no))
        if (
            row is not None
            and int(judged.corpus.documents[row]) not in queries.relevant[query_no - 1]
        ):
            mined[query_no - 1].append(row)
    return mined

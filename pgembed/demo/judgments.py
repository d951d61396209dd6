"""Judged queries that a table's own documentation gives: what an entry says of itself first."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from pgembed.demo.corpus_postgres import PostgresEntry
from pgembed.demo.corpus_python import PythonEntry
from pgembed.demo.wording import MASK, normalised, words
from pgembed.model import Judgment

SEED = "pgembed demo 1"
"""Decides the splits; a new seed is a new benchmark, not to be compared with the old one."""

MOST_ANSWERS = 5
"""A description that more entries share is boilerplate and names none of them."""

FEWEST_QUERY_WORDS = 3
"""Besides the mask: "square root" may be asked, but "this of" may not."""

BOILERPLATE = re.compile(
    r"^(?:I/O|\(internal\)|internal |implementation of |for use by |historical alias for |"
    r"aggregate (?:final|combine|transition|serial|deserial)|planner support|window RANGE support|"
    r"(?:GIN|GiST|SP-GiST|BRIN|sort|skip|hash|btree)\b.*support)"
)
"""Descriptions in PostgreSQL's catalog that say what a function is part of, not what it does."""


def python_judgments(entries: Iterable[PythonEntry]) -> list[Judgment]:
    """The first sentence of a docstring asks for the rest of it.

    Authors write the first sentence to say what a thing does, and the rest for who wants to know
    how: two texts on one thing, with few words in common, by somebody who knew what is relevant.
    Neither the sentence nor the entry's name is in the content, so a search cannot find the copy
    of what it was asked. The relation is weaker than a user's click: another entry may answer as
    well and count as wrong, so scores compare systems and mean little by themselves.

    Left out are sentences too short to ask, sentences that stand in the content again, contents
    that several entries share, and sentences that more than ``MOST_ANSWERS`` entries begin with.
    An entry that shares its sentence with a few others is one of several answers to it.
    """
    entries = list(entries)
    contents = Counter(normalised(entry.content) for entry in entries)
    return _judgments(
        "python",
        (
            (entry.summary, entry.id, entry.content)
            for entry in entries
            if contents[normalised(entry.content)] == 1
        ),
    )


def postgres_judgments(entries: Iterable[PostgresEntry]) -> list[Judgment]:
    """The description of a function, type or setting asks for the facts that the catalog holds.

    A description says in plain words what the catalog says in identifiers and types, and that is
    how people search a schema: "size of a table on disk" for ``pg_relation_size (regclass)``. The
    name, split into its parts, is in the content; where the description spells it out it is
    masked, so no query is answered by repeating the name. Overloads are told apart by their types
    only if the description tells them apart, and else all of them are answers.

    Left out are ``BOILERPLATE``, what is too short, and descriptions that more than
    ``MOST_ANSWERS`` entries share.
    """
    return _judgments(
        "postgres",
        (
            (entry.summary, entry.id, entry.content)
            for entry in entries
            if not BOILERPLATE.search(entry.description)
        ),
    )


def split_of(query: str) -> str:
    """Train (60 %), dev (20 %) or test (20 %), by a hash of the query's words.

    Texts that differ only in case, punctuation or the order and number of their words fall into
    one split, on every machine and whatever else is in the table.
    """
    signature = " ".join([SEED, *sorted(set(words(query)))])
    share = int.from_bytes(hashlib.sha256(signature.encode()).digest()[:4]) / 2**32
    return "train" if share < 0.6 else "dev" if share < 0.8 else "test"


def _judgments(domain: str, asked: Iterable[tuple[str, int, str]]) -> list[Judgment]:
    """Judgments of (query, id, content) whose query can be asked; equal queries are one."""
    answers: defaultdict[str, list[tuple[str, int, str]]] = defaultdict(list)
    for query, number, content in asked:
        answers[normalised(query)].append((query, number, content))
    return [
        Judgment(query=group[0][0], key=str(number), split=split_of(text), domain=domain)
        for text, group in answers.items()
        if _askable(text, group)
        for _, number, _ in group
    ]


def _askable(text: str, group: list[tuple[str, int, str]]) -> bool:
    """Whether a normalised query says enough, names few entries and none of them repeats it."""
    own_words = [word for word in text.split() if word != MASK]
    return (
        len(own_words) >= FEWEST_QUERY_WORDS
        and len(group) <= MOST_ANSWERS
        and not any(f" {text} " in f" {normalised(content)} " for _, _, content in group)
    )

"""Judged queries that a table's own documentation gives: what an entry says of itself first."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from pgembed.demo.corpus_postgres import PostgresEntry
from pgembed.demo.corpus_python import PythonEntry
from pgembed.demo.wording import MASK, normalised
from pgembed.model import Judgment

SEED = "pgembed demo 13"
"""Decides the splits; chosen by counts alone, which large families push away from 60, 20 and 20 %.
Another seed is another benchmark."""

MOST_ANSWERS = 5
"""A description that more entries share is boilerplate and names none of them."""

FEWEST_QUERY_WORDS = 3
"""Besides the mask: fewer name a subject, but do not ask anything of it."""

ALIKE = 2 / 3
"""Jaccard similarity of the words of two queries from which on they go into one split."""

BOILERPLATE = re.compile(
    r"^(?:I/O|\(internal\)|internal |implementation of |for use by |historical alias for |"
    r"aggregate (?:final|combine|transition|serial|deserial)|planner support|window RANGE support|"
    r"(?:GIN|GiST|SP-GiST|BRIN|sort|skip|hash|btree)\b.*support)"
)
"""Descriptions in PostgreSQL's catalog that say what a function is part of, not what it does."""


def python_judgments(entries: Iterable[PythonEntry]) -> list[Judgment]:
    """The first sentence of a docstring asks for the rest of it.

    Authors write the first sentence to say what a thing does, and the rest for who wants to know
    how: two texts on one thing, by somebody who knew what is relevant.
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
    how people search a schema: "extract substring that matches regexp" for
    ``regexp_substr (text, text, ...)``. The name, split into its parts, is in the content; where
    the description spells it out it is masked, so no query is answered by repeating the name.
    Overloads are told apart by their types only if the description tells them apart, and else all
    of them are answers.

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


def split_of(text: str) -> str:
    """Train (60 %), dev (20 %) or test (20 %), by a hash of the seed and a normalised text."""
    share = int.from_bytes(hashlib.sha256(f"{SEED} {text}".encode()).digest()[:4]) / 2**32
    return "train" if share < 0.6 else "dev" if share < 0.8 else "test"


def families(texts: Sequence[str]) -> dict[str, str]:
    """The first text, in the order of the alphabet, of those that each text resembles.

    Two texts are alike when they share at least ``ALIKE`` of the words that either has; what is
    like a member of a family belongs to it. PostgreSQL describes many functions by one pattern,
    "minimum value of all integer input values", and a pattern must not be trained on and tested.

    Args:
        texts: Normalised and distinct.
    """
    ordered = sorted(texts)
    column = {word: number for number, word in enumerate(sorted(set(" ".join(ordered).split())))}
    has = np.zeros((len(ordered), len(column)), dtype=np.float32)
    for row, text in enumerate(ordered):
        has[row, [column[word] for word in text.split()]] = 1
    sizes, shared = has.sum(axis=1), has @ has.T
    alike = shared >= ALIKE * (sizes[:, None] + sizes - shared)
    first = np.arange(len(ordered))
    for row in range(len(ordered)):
        joined = np.unique(first[alike[row]])
        first[np.isin(first, joined)] = joined[0]
    return {text: ordered[number] for text, number in zip(ordered, first, strict=True)}


def _judgments(domain: str, asked: Iterable[tuple[str, int, str]]) -> list[Judgment]:
    """Judgments of (query, id, content) whose query can be asked; equal queries are one."""
    answers: defaultdict[str, list[tuple[str, int, str]]] = defaultdict(list)
    for query, number, content in asked:
        answers[normalised(query)].append((query, number, content))
    askable = {text: group for text, group in answers.items() if _askable(text, group)}
    family = families(list(askable))
    return [
        Judgment(query=group[0][0], key=str(number), split=split_of(family[text]), domain=domain)
        for text, group in askable.items()
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

"""Split, mask and compare the sentences that the demo's queries and contents are made of."""

from __future__ import annotations

import re

MASK = "this"
"""Stands for an entry's own name: a stop word, so it carries no lexeme and little meaning."""

LONGEST_CONTENT = 1000
"""Characters; about 250 tokens, what one chunk of a small encoder holds."""

_BETWEEN_PARTS = r"[_\s-]*"

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")
_ENDS_NOTHING = ("..", "e.g.", "i.e.", "a.k.a.", "etc.", "vs.", "cf.", "approx.", "incl.", "resp.")
_BOUNDARY = re.compile(r"(?<=[.!?])\s+|\s*\n[ \t]*\n\s*")
_BLANK_LINE = re.compile(r"\n[ \t]*\n")


def cleaned(text: str) -> str:
    """What PostgreSQL can store and two runs agree on: no NUL, surrogate or memory address."""
    return _ADDRESS.sub("", _UNSTORABLE.sub("", text)).strip()


def on_one_line(text: str) -> str:
    """The text with each run of white space as one space."""
    return " ".join(text.split())


def shortened(text: str, longest: int = LONGEST_CONTENT) -> str:
    """At most ``longest`` characters, cut between two words where there are any."""
    if len(text) <= longest:
        return text
    return text[: longest + 1].rsplit(maxsplit=1)[0][:longest].rstrip()


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return re.findall(r"[^\W_]+", text.casefold())


def normalised(text: str) -> str:
    """The text as its words alone: equal for texts that differ in case and punctuation."""
    return " ".join(words(text))


def split_first_sentence(text: str) -> tuple[str, str]:
    """The first sentence on one line, and the rest as it stands.

    A sentence ends at a full stop before white space, or where its paragraph ends; abbreviations
    such as "e.g." end nothing.
    """
    for boundary in _BOUNDARY.finditer(text):
        first = text[: boundary.start()].strip()
        if first and (
            _BLANK_LINE.search(boundary.group()) or not first.lower().endswith(_ENDS_NOTHING)
        ):
            return on_one_line(first), text[boundary.end() :].strip()
    return on_one_line(text), ""


def masked(text: str, name: str, *, ignore_case: bool) -> str:
    """The text with every whole-word occurrence of a name replaced by ``MASK``.

    A name is found also when its parts are joined by spaces or hyphens, as in "octet length"
    for ``octet_length``: written out it would decide a search as much as the name itself.

    Args:
        text: What is searched for the name.
        name: An identifier without dots.
        ignore_case: Whether "Close" is an occurrence of ``close``.
    """
    parts = [part for part in name.split("_") if part]
    if not all(part.casefold() in text.casefold() for part in parts):
        return text  # far cheaper than to compile a pattern for every name
    pattern = rf"(?<!\w)_*{_BETWEEN_PARTS.join(map(re.escape, parts))}_*(?!\w)"
    return re.sub(pattern, MASK, text, flags=re.IGNORECASE if ignore_case else 0)

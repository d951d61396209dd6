"""Check texts before a tokenizer sees them, and cut what no encoder could take in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pgembed.chunking import CHARACTERS_PER_TOKEN
from pgembed.errors import InputError

SEGMENT = 16_384
"""Characters that are tokenised in one piece: the cost of one piece grows faster than its size."""


def checked(texts: Sequence[str], *, kind: str) -> list[str]:
    """Return the texts as a list when every one can be encoded.

    Args:
        texts: Any number of texts.
        kind: What they are, ``query`` or ``document``, for the message.

    Raises:
        InputError: A text is empty, holds a NUL or a lone surrogate, or is no text; its index is
            named. Also when ``texts`` is one string.
    """
    if isinstance(texts, str):
        raise InputError(f"one string was passed as {kind} texts", hint="pass a list of texts")
    found = list(texts)
    for index, text in enumerate(found):
        reason = _unusable(text)
        if reason is None and not text.strip():
            reason = "is empty", "leave blank texts out"
        if reason is not None:
            raise InputError(f"{kind} text {index} {reason[0]}", hint=reason[1])
    return found


def check_characters(text: str) -> None:
    """Refuse one text that holds what no tokenizer takes; an empty one is fine.

    Raises:
        InputError: The text holds a NUL or a lone surrogate, or is no text.
    """
    reason = _unusable(text)
    if reason is not None:
        raise InputError(f"the text {reason[0]}", hint=reason[1])


def _unusable(text: object) -> tuple[str, str] | None:
    """Say why a text cannot be tokenised, and what to do; None when it can."""
    if not isinstance(text, str):
        return f"is a {type(text).__name__}", "pass texts as str"
    if "\0" in text:
        return "holds a NUL character", 'remove it: text.replace("\\0", "")'
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return (
            f"holds a lone surrogate at character {error.start}",
            'remove it: text.encode(errors="ignore").decode()',
        )
    return None


def sliced(text: str, max_tokens: int) -> str:
    """Keep the beginning of a text, long enough for ``max_tokens`` tokens of any prose."""
    limit = CHARACTERS_PER_TOKEN * max_tokens
    return text if len(text) <= limit else text.lstrip()[:limit]


def segments(text: str) -> Iterator[tuple[int, str]]:
    """Cut a long text before whitespace: the first character's position and the text of each."""
    start = 0
    while start < len(text):
        end = _segment_end(text, start)
        yield start, text[start:end]
        start = end


def _segment_end(text: str, start: int) -> int:
    """Find where a segment ends: before the last blank or line end, else where it is full."""
    full = start + SEGMENT
    if full >= len(text):
        return len(text)
    blank = max(text.rfind(" ", start + 1, full), text.rfind("\n", start + 1, full))
    return blank if blank > start else full

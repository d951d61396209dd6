"""Cut a text into chunks of bounded tokens and characters, ending at sentences where possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgembed.errors import InputError
from pgembed.model import Chunk

CHARACTERS_PER_TOKEN = 16
"""4096 characters per 256 tokens: prose has 4 to 5, but a word of 10 MB is one unknown token."""

_SENTENCE_ENDS = (".", "!", "?", "…")
_CLOSING = "\"')]}”’»"  # noqa: RUF001
_IDEOGRAPHIC_ENDS = ("。", "！", "？")  # noqa: RUF001
_LOOK_BACK = 32
"""Characters before a cut that decide whether a sentence ends there."""

Offsets = Sequence[tuple[int, int]] | NDArray[np.int64]
"""First character and one past the last of each token, in order: (tokens, 2)."""


@dataclass(frozen=True, slots=True)
class _Units:
    """Where a text may be cut: unit i spans starts[i] to starts[i + 1]."""

    text: str
    starts: NDArray[np.int64]
    """Strictly increasing, from 0 to the text's length: (units + 1,)."""
    tokens: NDArray[np.int64]
    """Tokens that begin before each start: (units + 1,)."""


def chunks(text: str, offsets: Offsets, *, max_tokens: int, overlap: int = 0) -> list[Chunk]:
    """Cut ``text`` into chunks of at most ``max_tokens`` tokens and 16 characters a token.

    A text that fits is one chunk, whole. Else windows follow each other that share ``overlap``
    tokens; a window ends at the last sentence end in its last quarter, or the last whitespace
    there, or where it is full. Whitespace at a chunk's edges is left out, nothing else is:
    ``text[chunk.start:chunk.end] == chunk.content``.

    Args:
        text: Any text; an empty or blank one gives no chunk.
        offsets: Characters of each token of ``text``, without special tokens.
        max_tokens: Tokens that a chunk may hold, special tokens not counted.
        overlap: Tokens at a chunk's end that the next one repeats.

    Raises:
        InputError: ``max_tokens`` is below 1, or ``overlap`` is not below it.
    """
    _check(max_tokens, overlap)
    if not text or text.isspace():
        return []
    if len(offsets) <= max_tokens and len(text) <= CHARACTERS_PER_TOKEN * max_tokens:
        return [Chunk(number=0, start=0, end=len(text), content=text)]
    units = _units(text, offsets, CHARACTERS_PER_TOKEN * max_tokens)
    spans = [_trimmed(text, *span) for span in _spans(units, max_tokens, overlap)]
    return [
        Chunk(number=number, start=start, end=end, content=text[start:end])
        for number, (start, end) in enumerate(span for span in spans if span[0] < span[1])
    ]


def _check(max_tokens: int, overlap: int) -> None:
    """Refuse bounds that no window can keep."""
    if max_tokens < 1:
        raise InputError(f"a chunk cannot hold {max_tokens} tokens", hint="pass 1 or more")
    if not 0 <= overlap < max_tokens:
        raise InputError(
            f"an overlap of {overlap} tokens does not fit chunks of {max_tokens}",
            hint=f"pass 0 to {max_tokens - 1}",
        )


def _units(text: str, offsets: Offsets, max_characters: int) -> _Units:
    """Merge tokens that begin at one character, and cut what is longer than ``max_characters``."""
    begins = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)[:, 0]
    begins = np.clip(np.maximum.accumulate(begins), 0, len(text) - 1)
    edges = np.unique(np.concatenate([[0], begins, [len(text)]]))
    gaps = np.diff(edges)
    inner = [
        np.arange(edges[i] + max_characters, edges[i + 1], max_characters)
        for i in np.flatnonzero(gaps > max_characters)
    ]
    starts = np.unique(np.concatenate([edges, *inner])).astype(np.int64)
    return _Units(text=text, starts=starts, tokens=np.searchsorted(begins, starts))


def _spans(units: _Units, max_tokens: int, overlap: int) -> list[tuple[int, int]]:
    """Walk over the units window by window: first character and one past the last of each."""
    final = len(units.starts) - 1
    spans: list[tuple[int, int]] = []
    first = 0
    while True:
        full = _window_end(units, first, max_tokens)
        end = full if full == final else _preferred_end(units, first, full)
        spans.append((int(units.starts[first]), int(units.starts[end])))
        if end == final:
            return spans
        shared = int(np.searchsorted(units.tokens, units.tokens[end] - overlap, side="right"))
        first = min(max(shared - 1, first + 1), end)


def _window_end(units: _Units, first: int, max_tokens: int) -> int:
    """Find the last unit edge that a window beginning at ``first`` may reach."""
    by_tokens = np.searchsorted(units.tokens, units.tokens[first] + max_tokens, side="right")
    characters = units.starts[first] + CHARACTERS_PER_TOKEN * max_tokens
    by_characters = np.searchsorted(units.starts, characters, side="right")
    return max(int(min(by_tokens, by_characters)) - 1, first + 1)


def _preferred_end(units: _Units, first: int, full: int) -> int:
    """Move a window's end back to a sentence end, or whitespace, in its last quarter."""
    earliest = first + max(1, (3 * (full - first) + 3) // 4)
    at_whitespace: int | None = None
    for edge in range(full, earliest - 1, -1):
        strength = _boundary(units.text, int(units.starts[edge]))
        if strength == 2:
            return edge
        if strength == 1 and at_whitespace is None:
            at_whitespace = edge
    return full if at_whitespace is None else at_whitespace


def _boundary(text: str, start: int) -> int:
    """Grade a cut before ``text[start]``: 2 after a sentence or line, 1 at whitespace, else 0."""
    around = text[max(start - _LOOK_BACK, 0) : start + 1]
    before = around[:-1].rstrip()
    if before.endswith(_IDEOGRAPHIC_ENDS):
        return 2
    between = around[len(before) :]
    if not (between[0].isspace() or between[-1].isspace()):
        return 0
    line_end = "\n" in between
    return 2 if line_end or before.rstrip(_CLOSING).endswith(_SENTENCE_ENDS) else 1


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Leave out whitespace at both ends of a span."""
    content = text[start:end]
    return end - len(content.lstrip()), start + len(content.rstrip())

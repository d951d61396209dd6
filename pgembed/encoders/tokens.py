"""A tokenizer with truncation of our own: token ids, counts and offsets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pgembed.encoders.texts import segments, sliced
from pgembed.errors import EncoderError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Ids = NDArray[np.int64]
"""Token ids of one text, special tokens included: (tokens,)."""


class Tokens:
    """The tokenizer of an encoder; safe to use from many threads.

    Args:
        path: A ``tokenizer.json``; the padding and truncation that it asks for are ignored.
        max_tokens: Longest input in tokens, special tokens and prefix included.

    Raises:
        EncoderError: The file is corrupt, or ``max_tokens`` leaves no room for content.
    """

    def __init__(self, path: Path, max_tokens: int) -> None:
        self._path = path
        self._max_tokens = max_tokens
        self._truncating = load_tokenizer(path)
        self.pad_id = _pad_id(self._truncating)
        self._truncating.no_padding()
        self.special = self._truncating.num_special_tokens_to_add(False)
        if max_tokens <= self.special:
            raise EncoderError(
                f"{max_tokens} tokens leave no room beside {self.special} special tokens",
                hint=f"pass max_tokens of {self.special + 1} or more",
            )
        self._truncating.enable_truncation(max_tokens)

    def ids(self, texts: Sequence[str], prefix: str = "") -> list[Ids]:
        """Tokenise texts with a prefix, each cut to the first ``max_tokens`` tokens."""
        prepared = [prefix + sliced(text, self._max_tokens) for text in texts]
        encodings = self._truncating.encode_batch_fast(prepared)
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]

    def counts(self, texts: Sequence[str], prefix: str = "") -> list[int]:
        """Count the tokens of each text, special tokens and prefix included, nothing cut."""
        pieces = [
            (index, piece)
            for index, text in enumerate(texts)
            for _, piece in segments(prefix + text)
        ]
        encodings = self._whole.encode_batch_fast(
            [piece for _, piece in pieces], add_special_tokens=False
        )
        totals = [self.special] * len(texts)
        for (index, _), encoding in zip(pieces, encodings, strict=True):
            totals[index] += len(encoding)
        return totals

    def offsets(self, text: str) -> NDArray[np.int64]:
        """Find the characters of each token, special tokens left out: (tokens, 2)."""
        pieces = list(segments(text))
        encodings = self._whole.encode_batch(
            [piece for _, piece in pieces], add_special_tokens=False
        )
        found = [
            np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2) + start
            for (start, _), encoding in zip(pieces, encodings, strict=True)
        ]
        return np.concatenate([np.empty((0, 2), dtype=np.int64), *found])

    @cached_property
    def _whole(self) -> Tokenizer:
        """The same tokenizer without truncation."""
        tokenizer = load_tokenizer(self._path)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a ``tokenizer.json``.

    Raises:
        EncoderError: The file cannot be read or is no tokenizer.
    """
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # tokenizers raises bare Exception for whatever it cannot parse
        raise EncoderError(
            f"the tokenizer {path} is corrupt: {error}",
            hint="fetch tokenizer.json again from where the model came from",
        ) from error


def _pad_id(tokenizer: Tokenizer) -> int:
    """Find the id that fills up short rows; masked, but some graphs derive positions from it."""
    if tokenizer.padding is not None:
        return int(tokenizer.padding["pad_id"])
    known = (tokenizer.token_to_id(token) for token in ("[PAD]", "<pad>", "<|endoftext|>"))
    return next((found for found in known if found is not None), 0)

"""An encoder: texts to unit vectors, token-aware chunks, token counts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from pgembed.chunking import chunks
from pgembed.encoders.onnx import Graph, run_batches
from pgembed.encoders.texts import check_characters, checked
from pgembed.encoders.tokens import Tokens
from pgembed.errors import EncoderError, InputError
from pgembed.model import Chunk, EncoderSpec, Vectors
from pgembed.pooling import unit

BLOCK = 2048
"""Texts that are tokenised and sorted at once: bounds memory, still fills equal-length batches."""

Progress = Callable[[int], None]
"""Told how many texts are done since the last call; called in the caller's own thread."""


@dataclass(slots=True)
class Counted:
    """What an encoder has done so far, for benchmarks."""

    texts: int = 0
    real_tokens: int = 0
    padded_tokens: int = 0
    """Real tokens and padding together: what was paid for."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, *, texts: int, real_tokens: int, padded_tokens: int) -> None:
        """Count one batch."""
        with self._lock:
            self.texts += texts
            self.real_tokens += real_tokens
            self.padded_tokens += padded_tokens


class Encoder:
    """A base model; safe to use from many threads.

    Args:
        spec: What defines its vector space.
        graph: The open ONNX graph.
        tokens: Its tokenizer.
        threads: Batches that run at the same time.

    Attributes:
        spec: What defines its vector space.
        counted: Texts and tokens that went through it.
        graph: The open ONNX graph.
        tokens: Its tokenizer.
        threads: Batches that run at the same time.
    """

    def __init__(self, spec: EncoderSpec, graph: Graph, tokens: Tokens, *, threads: int) -> None:
        self.spec = spec
        self.counted = Counted()
        self.graph = graph
        self.tokens = tokens
        self.threads = threads

    def __repr__(self) -> str:
        return f"Encoder({self.spec.name!r}, {self.spec.dimensions} dimensions)"

    def encode_query(self, texts: Sequence[str], *, on_progress: Progress | None = None) -> Vectors:
        """Encode queries: unit length, float32 (n, d), in the order of ``texts``.

        Raises:
            InputError: A text is blank, or holds a NUL or a lone surrogate.
            EncoderError: The model cannot run, or gives no usable vector.
        """
        return self._encode(checked(texts, kind="query"), self.spec.query_prefix, on_progress)

    def encode_document(
        self, texts: Sequence[str], *, on_progress: Progress | None = None
    ) -> Vectors:
        """Encode documents: unit length, float32 (n, d), in the order of ``texts``.

        A text is cut after ``spec.max_tokens`` tokens; see ``chunk`` for longer ones.

        Raises:
            InputError: A text is blank, or holds a NUL or a lone surrogate.
            EncoderError: The model cannot run, or gives no usable vector.
        """
        return self._encode(checked(texts, kind="document"), self.spec.document_prefix, on_progress)

    def chunk(self, text: str, *, max_tokens: int | None = None, overlap: int = 0) -> list[Chunk]:
        """Cut a text into chunks that are encoded whole.

        Args:
            text: Any text; a blank one gives no chunk.
            max_tokens: Longest chunk in tokens, special tokens and document prefix included;
                the encoder's own bound by default.
            overlap: Tokens that neighbouring chunks share.

        Raises:
            InputError: The bounds leave no room for content, or the text cannot be tokenised.
        """
        check_characters(text)
        bound = self.spec.max_tokens if max_tokens is None else max_tokens
        reserved = self.tokens.counts([""], self.spec.document_prefix)[0]
        if not reserved + overlap < bound <= self.spec.max_tokens:
            raise InputError(
                f"chunks of {bound} tokens that share {overlap} are not possible with"
                f" {self.spec.name}",
                hint=f"pass max_tokens of {reserved + overlap + 1} to {self.spec.max_tokens}",
            )
        return self._chunk(text, bound, bound - reserved, overlap)

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Count each text's tokens as a document: special tokens and prefix in, nothing cut.

        Raises:
            InputError: A text holds a NUL or a lone surrogate.
        """
        for text in texts:
            check_characters(text)
        return self.tokens.counts(texts, self.spec.document_prefix)

    def _chunk(self, text: str, bound: int, content: int, overlap: int) -> list[Chunk]:
        """Cut, and cut again while a piece has more tokens alone than it had within the text.

        A piece that begins inside a word may: its first token is then another one.
        """
        offsets = self.tokens.offsets(text)
        while True:
            found = chunks(text, offsets, max_tokens=content, overlap=min(overlap, content - 1))
            counts = self.tokens.counts(
                [chunk.content for chunk in found], self.spec.document_prefix
            )
            excess = max(counts, default=0) - bound
            if excess <= 0 or content == 1:
                return found
            content = max(1, content - excess)

    def _encode(self, texts: list[str], prefix: str, on_progress: Progress | None) -> Vectors:
        """Encode checked texts block by block."""
        vectors = np.empty((len(texts), self.spec.dimensions), dtype=np.float32)
        for start in range(0, len(texts), BLOCK):
            ids = self.tokens.ids(texts[start : start + BLOCK], prefix)
            with closing(run_batches(self.graph, ids, threads=self.threads)) as batches:
                for batch, padded, states in batches:
                    vectors[[start + position for position in batch]] = self.unit(states)
                    real = sum(len(ids[position]) for position in batch)
                    self.counted.add(texts=len(batch), real_tokens=real, padded_tokens=padded)
                    if on_progress is not None:
                        on_progress(len(batch))
        return vectors

    def unit(self, states: Vectors) -> Vectors:
        """Cut raw vectors to the encoder's dimensions and scale them to unit length.

        Raises:
            EncoderError: A vector is zero or not finite.
        """
        try:
            return unit(states[:, : self.spec.dimensions])
        except InputError as error:
            raise EncoderError(
                f"encoder {self.spec.name} gave a vector that cannot be used: {error}",
                hint="check the model's files, or its export",
            ) from error

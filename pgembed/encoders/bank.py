"""A bank of LoRA experts in one open model: base once, each further expert for half a pass."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgembed.encoders.encoder import BLOCK, Encoder
from pgembed.encoders.halves import Halves, Hidden, Manifest
from pgembed.encoders.minilm import SOURCE
from pgembed.encoders.onnx import Result, over_batches, padded
from pgembed.encoders.preparing import lora_folder, prepare, prepared
from pgembed.encoders.stacks import Experts
from pgembed.encoders.texts import checked
from pgembed.encoders.tokens import Ids
from pgembed.errors import EncoderError, InputError
from pgembed.lora_expert import LoraExpert
from pgembed.model import Vectors


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """Queries after the base's pass, and what further experts go on from."""

    base: Vectors
    """float32, shape (n, dimensions), unit length: equal to ``Encoder.encode_query``."""
    ids: tuple[Ids, ...]
    """Token ids of each query."""
    hidden: tuple[Hidden, ...]
    """States of each query before the upper half: float32, shape (tokens, width)."""

    def take(self, rows: Sequence[int]) -> States:
        """Some of the queries, in another order where wanted."""
        return States(
            self.base[list(rows)],
            tuple(self.ids[row] for row in rows),
            tuple(self.hidden[row] for row in rows),
        )


class AdapterBank:
    """LoRA experts side by side in a prepared model; safe to use from many threads.

    Experts come and go while queries run: a call sees those that were there when it began.

    Args:
        encoder: The base model.
        folder: Where its prepared model lies.
        manifest: Of the prepared model.
        halves: Its graphs, where they are open already.

    Raises:
        EncoderError: A graph cannot be loaded.

    Attributes:
        encoder: The base model.
        folder: Where its prepared model lies.
        manifest: Which slots there are, and where the model is split.
        layers_run: Layers that queries went through so far, one for each query and layer.
    """

    def __init__(
        self, encoder: Encoder, folder: Path, manifest: Manifest, halves: Halves | None = None
    ) -> None:
        self.encoder = encoder
        self.folder = folder
        self.manifest = manifest
        self.layers_run = 0
        self._halves = halves or Halves(folder, manifest)
        self._base = self._experts = Experts.none(manifest)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"AdapterBank({self.encoder.spec.name!r}, {len(self.names)} experts)"

    @classmethod
    def open(cls, encoder: Encoder, folder: Path | None = None) -> AdapterBank:
        """Open the prepared model of an encoder; ``minilm`` is prepared where it is not yet.

        Args:
            encoder: Open.
            folder: Where the prepared model lies; ``lora_folder(encoder)`` by default.

        Raises:
            EncoderError: The model is not prepared, was changed, or belongs to another graph.
        """
        place = folder or lora_folder(encoder)
        try:
            manifest = prepared(encoder, place)
        except EncoderError:
            if folder is not None or encoder.spec.source != SOURCE:
                raise
            manifest = prepare(encoder)
        return cls(encoder, place, manifest)

    def sharing(self) -> AdapterBank:
        """An empty bank on the same open model."""
        return AdapterBank(self.encoder, self.folder, self.manifest, self._halves)

    @property
    def names(self) -> tuple[str, ...]:
        """The experts in the bank, sorted."""
        return tuple(sorted(self._experts.firsts))

    @property
    def nbytes(self) -> int:
        """Bytes of the experts' weights, the base's zeros and filled-up ranks included."""
        return self._experts.lower.nbytes + self._experts.upper.nbytes

    @property
    def passes(self) -> float:
        """Passes through the whole model that queries took so far: 1 for a query's base."""
        return self.layers_run / self.manifest.layers

    def cost(self, name: str) -> float:
        """Passes that one more query takes with an expert: the upper half's share, or 1.

        Raises:
            NotFoundError: The bank has no such expert.
        """
        return 1 - self._experts.first_layer(name) / self.manifest.layers

    def add(self, name: str, expert: LoraExpert) -> None:
        """Put an expert in, or replace the one of that name; the model stays open.

        Raises:
            InputError: The model has no slot for a weight of the expert, or one of another shape.
        """
        with self._lock:
            self._experts = self._experts.plus(name, expert)

    def remove(self, name: str) -> None:
        """Take an expert out.

        Raises:
            NotFoundError: The bank has no such expert.
        """
        with self._lock:
            self._experts = self._experts.minus(name)

    def start(self, texts: Sequence[str]) -> States:
        """Run the base on queries and keep the states between the halves: one pass a query.

        Raises:
            InputError: A text is blank, or holds a NUL or a lone surrogate.
            EncoderError: The model cannot run, or gives no usable vector.
        """
        found = checked(texts, kind="query")
        base = np.empty((len(found), self.encoder.spec.dimensions), dtype=np.float32)
        ids: list[Ids] = []
        hidden: list[Hidden] = []
        for start in range(0, len(found), BLOCK):
            block = self.encoder.tokens.ids(
                found[start : start + BLOCK], self.encoder.spec.query_prefix
            )
            vectors, states = self._start(block)
            base[start : start + len(block)] = vectors
            ids += block
            hidden += states
        return States(base, tuple(ids), tuple(hidden))

    def finish(self, states: States, rows: Sequence[int], names: Sequence[str]) -> Vectors:
        """Run experts on queries that ``start`` has seen, different ones in one batch.

        An expert without weights in the lower half runs the upper half alone. The name ``base``
        gives the base's vector again, for nothing.

        Args:
            states: Of the queries.
            rows: Numbers of queries in ``states``; each may occur several times.
            names: The expert of each row.

        Returns:
            float32, shape (rows, dimensions), unit length, in the order of ``rows``.

        Raises:
            NotFoundError: The bank has no such expert.
            InputError: ``rows`` and ``names`` differ in length.
            EncoderError: The model cannot run, or gives no usable vector.
        """
        if len(rows) != len(names):
            raise InputError(f"{len(rows)} rows need one expert each, not {len(names)}")
        experts = self._experts
        firsts = np.array([experts.first_layer(name) for name in names], dtype=np.intp)
        picked = states.take(rows)
        vectors = picked.base.copy()
        for first in sorted(set(firsts.tolist()) - {self.manifest.layers}):
            places = np.flatnonzero(firsts == first)
            own = [names[place] for place in places.tolist()]
            vectors[places] = self._finish(experts, picked.take(places.tolist()), own, first)
        return vectors

    def _start(self, ids: list[Ids]) -> tuple[Vectors, list[Hidden]]:
        """The base's pass over a block of queries: vectors, and states of the real tokens."""
        lower, upper = self._base.lower.inputs, self._base.upper.inputs

        def run(batch: list[int]) -> tuple[Vectors, list[Hidden]]:
            rows, mask = padded([ids[place] for place in batch], self.encoder.graph.pad_id)
            base = [0] * len(batch)
            states = self._halves.lower(rows, mask, base, lower)
            pooled = self._pooled(states, rows, mask, base, upper)
            self._count(len(batch) * self.manifest.layers)
            self.encoder.counted.add(
                texts=len(batch), real_tokens=int(mask.sum()), padded_tokens=mask.size
            )
            lengths = mask.sum(axis=1)
            return pooled, [
                state[:length].copy() for state, length in zip(states, lengths, strict=True)
            ]

        vectors = np.empty((len(ids), self.encoder.spec.dimensions), dtype=np.float32)
        hidden: dict[int, Hidden] = {}
        for batch, (pooled, states) in self._batches(ids, run):
            vectors[batch] = pooled
            hidden.update(zip(batch, states, strict=True))
        return vectors, [hidden[place] for place in range(len(ids))]

    def _finish(
        self, experts: Experts, states: States, names: Sequence[str], first: int
    ) -> Vectors:
        """Experts that all begin at one layer, each on its own query."""
        uppers, lowers = (stack.numbers(names) for stack in (experts.upper, experts.lower))

        def run(batch: list[int]) -> Vectors:
            rows, mask = padded([states.ids[place] for place in batch], self.encoder.graph.pad_id)
            if first < self.manifest.split:
                numbers = [lowers[place] for place in batch]
                hidden = self._halves.lower(rows, mask, numbers, experts.lower.inputs)
            else:
                hidden = _filled([states.hidden[place] for place in batch], mask.shape[1])
            self._count(len(batch) * (self.manifest.layers - first))
            numbers = [uppers[place] for place in batch]
            return self._pooled(hidden, rows, mask, numbers, experts.upper.inputs)

        vectors = np.empty((len(names), self.encoder.spec.dimensions), dtype=np.float32)
        for batch, found in self._batches(states.ids, run):
            vectors[batch] = found
        return vectors

    def _pooled(
        self,
        hidden: Hidden,
        rows: NDArray[np.int64],
        mask: NDArray[np.int64],
        numbers: Sequence[int],
        slots: Mapping[str, NDArray[np.float32]],
    ) -> Vectors:
        """The upper half of a batch to unit vectors."""
        output = self._halves.upper(hidden, rows, mask, numbers, slots)
        return self.encoder.unit(self.encoder.graph.pooled(output, mask))

    def _batches(
        self, ids: Sequence[Ids], run: Callable[[list[int]], Result]
    ) -> Iterator[tuple[list[int], Result]]:
        lengths = [len(each) for each in ids]
        with closing(over_batches(lengths, run, threads=self.encoder.threads)) as batches:
            yield from batches

    def _count(self, layers: int) -> None:
        with self._lock:
            self.layers_run += layers


def _filled(states: Sequence[Hidden], longest: int) -> Hidden:
    """Fill up states of single texts on the right: (texts, longest, width)."""
    filled = np.zeros((len(states), longest, states[0].shape[1]), dtype=np.float32)
    for row, state in enumerate(states):
        filled[row, : len(state)] = state
    return filled

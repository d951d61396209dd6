"""Adapters of several experts, stacked for the slot inputs of a graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgembed.encoders.halves import Manifest, input_name
from pgembed.errors import InputError, NotFoundError
from pgembed.lora_expert import LoraExpert, layer_of

BASE = "base"
"""The name under which no expert is applied."""

Shapes = Mapping[str, Sequence[int]]
"""Input and output width of each slot."""


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Experts of one half, never changed: number 0 is the base, whose matrices are zero.

    Smaller ranks are filled up with zeros, which change nothing.
    """

    shapes: Shapes
    ranks: Mapping[str, int]
    """Rank of each expert by name, in the order of their numbers, which start at 1."""
    inputs: Mapping[str, NDArray[np.float32]]
    """By input name: A (experts + 1, in, rank) and B (experts + 1, rank, out), float32."""

    @classmethod
    def of(cls, shapes: Shapes) -> Stack:
        """The base alone, with rank 0."""
        none: list[NDArray[np.float32]] = []
        return cls(shapes, {}, _stacked(shapes, {}, dict.fromkeys(_names(shapes), none)))

    @property
    def nbytes(self) -> int:
        """Bytes of all matrices."""
        return sum(values.nbytes for values in self.inputs.values())

    def numbers(self, names: Sequence[str]) -> list[int]:
        """Numbers of experts; 0 for those that have no weights in this half."""
        known = {name: number for number, name in enumerate(self.ranks, start=1)}
        return [known.get(name, 0) for name in names]

    def plus(self, name: str, expert: LoraExpert, slots: Collection[str]) -> Stack:
        """With one more expert, of which some slots count; unchanged where there are none."""
        if not slots:
            return self
        added = {
            input_name(slot, letter): matrix
            for slot in slots
            for letter, matrix in (
                ("A", expert.A[slot]),
                ("B", expert.B[slot] * np.float32(expert.scale)),
            )
        }
        ranks = {**self.ranks, name: expert.rank}
        empty = np.zeros((0, 0), dtype=np.float32)
        matrices = {each: [*self.inputs[each][1:], added.get(each, empty)] for each in self.inputs}
        return Stack(self.shapes, ranks, _stacked(self.shapes, ranks, matrices))

    def minus(self, name: str) -> Stack:
        """Without an expert; unchanged where it has no weights in this half."""
        if name not in self.ranks:
            return self
        kept = [number for number, each in enumerate(self.ranks, start=1) if each != name]
        ranks = {each: rank for each, rank in self.ranks.items() if each != name}
        matrices = {each: list(self.inputs[each][kept]) for each in self.inputs}
        return Stack(self.shapes, ranks, _stacked(self.shapes, ranks, matrices))


@dataclass(frozen=True, slots=True, eq=False)
class Experts:
    """The experts of a prepared model at one moment; never changed, only replaced."""

    manifest: Manifest
    lower: Stack
    upper: Stack
    firsts: Mapping[str, int]
    """The first layer that each expert runs by itself: that of the upper half, or 0."""

    @classmethod
    def none(cls, manifest: Manifest) -> Experts:
        """The base alone."""
        return cls(manifest, Stack.of(manifest.half(False)), Stack.of(manifest.half(True)), {})

    def first_layer(self, name: str) -> int:
        """The first layer that an expert runs by itself; beyond the last one for the base.

        Raises:
            NotFoundError: There is no such expert.
        """
        if name == BASE:
            return self.manifest.layers
        if name not in self.firsts:
            raise NotFoundError(
                f"the bank has no expert {name!r}",
                hint=f"It has {', '.join(sorted(self.firsts)) or 'none'}.",
            )
        return self.firsts[name]

    def plus(self, name: str, expert: LoraExpert) -> Experts:
        """With one more expert, or with another one of that name.

        Raises:
            InputError: The model has no slot for a weight of the expert, or one of another shape.
        """
        if name == BASE:
            raise InputError(f"{BASE!r} is the model without an expert", hint="choose another name")
        check_slots(self.manifest, name, expert)
        rest, split = self.minus(name) if name in self.firsts else self, self.manifest.split
        lower = [slot for slot in expert.slots if layer_of(slot) < split]
        upper = [slot for slot in expert.slots if layer_of(slot) >= split]
        return Experts(
            self.manifest,
            rest.lower.plus(name, expert, lower),
            rest.upper.plus(name, expert, upper),
            {**rest.firsts, name: 0 if lower else split},
        )

    def minus(self, name: str) -> Experts:
        """Without an expert.

        Raises:
            NotFoundError: There is no such expert.
        """
        self.first_layer(name)
        rest = {each: first for each, first in self.firsts.items() if each != name}
        return Experts(self.manifest, self.lower.minus(name), self.upper.minus(name), rest)


def check_slots(manifest: Manifest, name: str, expert: LoraExpert) -> None:
    """Compare an expert with the slots of a prepared model.

    Raises:
        InputError: The model has no slot for a weight of the expert, or one of another shape.
    """
    for slot in expert.slots:
        if slot not in manifest.slots:
            raise InputError(
                f"expert {name!r} has weights for {slot}, where the prepared model has no slot",
                hint=f"its layers are 0 to {manifest.layers - 1}; other projections get slots by"
                " pgembed encoder prepare SOURCE --target ...",
            )
        shape = (expert.A[slot].shape[0], expert.B[slot].shape[1])
        if shape != tuple(manifest.slots[slot]):
            width_in, width_out = manifest.slots[slot]
            raise InputError(
                f"expert {name!r} maps {shape[0]} to {shape[1]} numbers at {slot}, the model"
                f" {width_in} to {width_out}",
                hint="it was trained on another model",
            )


def _names(shapes: Shapes) -> list[str]:
    return [input_name(slot, letter) for slot in shapes for letter in "AB"]


def _stacked(
    shapes: Shapes,
    ranks: Mapping[str, int],
    matrices: Mapping[str, Sequence[NDArray[np.float32]]],
) -> dict[str, NDArray[np.float32]]:
    """Lay matrices of each input on top of one another, below the base's zeros."""
    rank = max(ranks.values(), default=0)
    stacked = {}
    for slot, (width_in, width_out) in shapes.items():
        for letter, shape in (("A", (width_in, rank)), ("B", (rank, width_out))):
            name = input_name(slot, letter)
            whole = np.zeros((1 + len(ranks), *shape), dtype=np.float32)
            for number, matrix in enumerate(matrices[name], start=1):
                rows, columns = (min(sizes) for sizes in zip(matrix.shape, shape, strict=True))
                whole[number, :rows, :columns] = matrix[:rows, :columns]
            stacked[name] = whole
    return stacked

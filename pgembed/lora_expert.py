"""A LoRA expert: low-rank residuals on projections inside the query encoder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pgembed.errors import InputError

Matrices = Mapping[str, NDArray[np.float32]]
"""One float32 matrix for each slot."""

TARGETS: Mapping[str, str] = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
}
"""Short names of the projections of a BERT layer, and those that transformers gives them."""

PARTS = tuple(TARGETS.values())

SLOT = re.compile(rf"encoder\.layer\.(\d+)\.({'|'.join(re.escape(part) for part in PARTS)})")
"""Name of a slot: its layer, counted from 0, and its projection."""


def slot_name(layer: int, part: str) -> str:
    """The name of a projection's slot, such as ``encoder.layer.3.attention.self.query``."""
    return f"encoder.layer.{layer}.{part}"


def part_of(slot: str) -> str:
    """The projection of a slot, without its layer."""
    return slot.split(".", 3)[3]


def layer_of(slot: str) -> int:
    """The layer of a slot, counted from 0.

    Raises:
        InputError: this is not the name of a slot.
    """
    found = SLOT.fullmatch(slot)
    if found is None:
        raise InputError(
            f"{slot!r} is no projection that an adapter can sit on",
            hint=f"write encoder.layer.N. and one of {', '.join(PARTS)}",
        )
    return int(found[1])


@dataclass(frozen=True, slots=True, eq=False)
class LoraExpert:
    """The maps x -> x W + b + scale (x A) B of some projections of the query encoder.

    Low-rank adaptation (Hu et al., arXiv 2106.09685, section 4.1), with rows as vectors: A and B
    are the transposes of PEFT's ``lora_A.weight`` and ``lora_B.weight``.

    Raises:
        InputError: a slot is unknown or has one matrix alone, shapes or ranks do not fit, or a
            number is not finite.
    """

    kind: ClassVar[str] = "lora"

    A: Matrices
    """By slot: float32, shape (in, rank)."""
    B: Matrices
    """By slot: float32, shape (rank, out)."""
    alpha: float
    """The residual is multiplied by alpha / rank."""
    sha256: str = field(init=False)
    """Hash of slots, alpha and weights, hexadecimal, whatever file they come in."""

    def __post_init__(self) -> None:
        if set(self.A) != set(self.B):
            raise InputError(f"slot {min(set(self.A) ^ set(self.B))} has only one of A and B")
        if not self.A:
            raise InputError("a LoRA expert without a slot changes nothing")
        alpha = float(self.alpha)
        if not (np.isfinite(alpha) and alpha > 0):
            raise InputError(f"alpha is a number above 0, not {self.alpha}")
        ordered = sorted(self.A, key=lambda slot: (layer_of(slot), slot))
        A, B = ({s: _matrix(matrices[s], s) for s in ordered} for matrices in (self.A, self.B))
        ranks = {_rank(slot, A[slot], B[slot]) for slot in ordered}
        if len(ranks) != 1:
            raise InputError(f"the slots of one expert share their rank, not {sorted(ranks)}")
        object.__setattr__(self, "A", MappingProxyType(A))
        object.__setattr__(self, "B", MappingProxyType(B))
        object.__setattr__(self, "alpha", alpha)
        object.__setattr__(self, "sha256", _content_hash(self))

    @property
    def slots(self) -> tuple[str, ...]:
        """The projections that are changed, layer by layer."""
        return tuple(self.A)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that are changed, counted from 0."""
        return tuple(sorted({layer_of(slot) for slot in self.A}))

    @property
    def rank(self) -> int:
        """Rank of each residual."""
        return int(next(iter(self.A.values())).shape[1])

    @property
    def scale(self) -> float:
        """What (x A) B is multiplied by: alpha / rank."""
        return self.alpha / self.rank

    @property
    def nbytes(self) -> int:
        """Bytes of all matrices."""
        return sum(matrix.nbytes for each in (self.A, self.B) for matrix in each.values())

    def delta(self, slot: str) -> NDArray[np.float32]:
        """What the expert adds to the matrix of a projection: scale A B, float32, (in, out)."""
        added: NDArray[np.float32] = self.A[slot] @ self.B[slot] * np.float32(self.scale)
        return added


def _content_hash(expert: LoraExpert) -> str:
    digest = hashlib.sha256(repr((expert.alpha, expert.rank)).encode())
    for slot in expert.slots:
        digest.update(f"\n{slot} {expert.A[slot].shape} {expert.B[slot].shape}\n".encode())
        digest.update(expert.A[slot].astype("<f4").tobytes())
        digest.update(expert.B[slot].astype("<f4").tobytes())
    return digest.hexdigest()


def _matrix(values: NDArray[np.float32], slot: str) -> NDArray[np.float32]:
    matrix = np.ascontiguousarray(values, dtype=np.float32)
    if matrix.ndim != 2 or not matrix.size:
        raise InputError(f"slot {slot} needs matrices, not an array of shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise InputError(f"a weight of slot {slot} is not a finite number")
    return matrix


def _rank(slot: str, A: NDArray[np.float32], B: NDArray[np.float32]) -> int:
    if A.shape[1] != B.shape[0]:
        raise InputError(
            f"slot {slot} needs A (in, rank) and B (rank, out), not {A.shape} and {B.shape}"
        )
    return int(A.shape[1])

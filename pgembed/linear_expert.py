"""A linear expert: a low-rank residual on the base query vector, 200 kB that cost microseconds."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from pgembed.errors import InputError
from pgembed.model import Vectors

MAGIC = b"PGLINEAR"
VERSION = 1
HEADER = struct.Struct("<8sIII")
"""Magic, layout version, dimensions, rank: little-endian, 20 bytes."""

Floats = TypeVar("Floats", NDArray[np.float32], NDArray[np.float64])


def unit(vectors: Floats) -> Floats:
    """Scale vectors (last axis) to length 1; a zero vector stays zero."""
    lengths: Any = np.linalg.norm(vectors, axis=-1, keepdims=True)
    lengths[lengths == 0] = 1
    scaled: Floats = vectors / lengths
    return scaled


@dataclass(frozen=True, slots=True, eq=False)
class LinearExpert:
    """The map z -> unit(z + (z A) B) of a unit query vector z.

    A residual adapter after pooling, as DESIRE-ME (arXiv 2403.13468) and Search-Adaptor
    (arXiv 2310.08750) have them, of low rank and without a non-linearity.

    Raises:
        InputError: the shapes do not fit, or a weight is not finite.
    """

    kind: ClassVar[str] = "linear"

    A: NDArray[np.float32]
    """float32, shape (dimensions, rank)."""
    B: NDArray[np.float32]
    """float32, shape (rank, dimensions)."""

    def __post_init__(self) -> None:
        A = np.ascontiguousarray(self.A, dtype=np.float32)
        B = np.ascontiguousarray(self.B, dtype=np.float32)
        if A.ndim != 2 or B.shape != A.shape[::-1] or not A.size:
            raise InputError(
                f"a linear expert needs A (dimensions, rank) and B (rank, dimensions), "
                f"not {A.shape} and {B.shape}"
            )
        if not (np.isfinite(A).all() and np.isfinite(B).all()):
            raise InputError("a weight of the linear expert is not a finite number")
        object.__setattr__(self, "A", A)
        object.__setattr__(self, "B", B)

    @property
    def dimensions(self) -> int:
        """Length of the vectors that the expert maps."""
        return int(self.A.shape[0])

    @property
    def rank(self) -> int:
        """Rank of the residual."""
        return int(self.A.shape[1])

    @property
    def sha256(self) -> str:
        """Hash of the bytes, hexadecimal: what the registry stores beside them."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def apply(self, Z: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map unit query vectors, shape (n, dimensions) or (dimensions,), to unit vectors."""
        mapped: Vectors = Z + np.matmul(np.matmul(Z, self.A), self.B)
        return unit(mapped)

    def to_bytes(self) -> bytes:
        """Write the expert as bytes.

        Layout, all little-endian: 8 bytes ``PGLINEAR``; unsigned 32-bit layout version (1),
        dimensions d and rank r; A as d * r float32 row by row; B as r * d float32 row by row.
        """
        header = HEADER.pack(MAGIC, VERSION, self.dimensions, self.rank)
        return header + self.A.astype("<f4").tobytes() + self.B.astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, dimensions: int) -> LinearExpert:
        """Read what ``to_bytes`` wrote.

        Args:
            data: the bytes.
            dimensions: of the encoder that the expert belongs to.

        Raises:
            InputError: these are not the bytes of a linear expert for that encoder.
        """
        rank = _rank_of(data, dimensions)
        weights = np.frombuffer(data, dtype="<f4", offset=HEADER.size)
        A, B = np.split(weights, 2)
        return cls(A.reshape(dimensions, rank), B.reshape(rank, dimensions))


def _rank_of(data: bytes, dimensions: int) -> int:
    if len(data) < HEADER.size or not data.startswith(MAGIC):
        raise InputError(f"these {len(data)} bytes are not a linear expert of pgembed")
    _, version, stored, rank = HEADER.unpack_from(data)
    if version != VERSION:
        raise InputError(
            f"the linear expert has layout version {version}, this pgembed reads {VERSION}",
            hint="upgrade pgembed, or train the expert again",
        )
    if stored != dimensions:
        raise InputError(
            f"the linear expert maps {stored} dimensions, its encoder has {dimensions}",
            hint="register it with the encoder that it was trained for",
        )
    size = HEADER.size + 8 * stored * rank
    if not rank or len(data) != size:
        raise InputError(f"a linear expert of rank {rank} takes {size} bytes, not {len(data)}")
    return int(rank)

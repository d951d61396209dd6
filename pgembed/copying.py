"""Rows in PostgreSQL's binary COPY format, packed without a Python object per field."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pgembed.model import Vectors

HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
"""Signature, no flags, no header extension (PostgreSQL manual, COPY, file format)."""

TRAILER = struct.pack(">h", -1)

_FIELDS_AND_LENGTH = struct.Struct(">hi")
_INT_AND_LENGTH = struct.Struct(">iii")
_SPAN_AND_LENGTH = struct.Struct(">iiiii")
_VECTOR_HEAD = struct.Struct(">ihh")
_NULL = struct.pack(">i", -1)


class ChunkRow(NamedTuple):
    """One row of the staging table: a tuple, because a frozen dataclass costs twice its making."""

    key: str
    chunk_no: int
    content: str
    start: int
    end: int
    content_hash: bytes
    embedding: int | None
    """Number of its field among the embeddings, None to keep the one that is stored."""


def halfvec_fields(vectors: Vectors) -> list[bytes]:
    """Each vector as a COPY field of type halfvec: length, dimensions, big-endian float16."""
    dimensions = vectors.shape[1]
    head = _VECTOR_HEAD.pack(4 + 2 * dimensions, dimensions, 0)
    data = np.ascontiguousarray(vectors, dtype=">f2").tobytes()
    size = 2 * dimensions
    return [head + data[start : start + size] for start in range(0, len(data), size)]


def copy_blocks(
    rows: Iterable[ChunkRow], embeddings: Sequence[bytes], *, encoding: str = "utf-8"
) -> Iterator[bytes]:
    """The bytes of a binary COPY of staging rows, a block a row.

    Args:
        rows: in the order of the staging table's columns.
        embeddings: fields made by ``halfvec_fields``.
        encoding: of the connection: PostgreSQL converts texts of a binary COPY as well.
    """
    yield HEADER
    for row in rows:
        key, content = row.key.encode(encoding), row.content.encode(encoding)
        yield b"".join(
            (
                _FIELDS_AND_LENGTH.pack(7, len(key)),
                key,
                _INT_AND_LENGTH.pack(4, row.chunk_no, len(content)),
                content,
                _SPAN_AND_LENGTH.pack(4, row.start, 4, row.end, len(row.content_hash)),
                row.content_hash,
                _NULL if row.embedding is None else embeddings[row.embedding],
            )
        )
    yield TRAILER

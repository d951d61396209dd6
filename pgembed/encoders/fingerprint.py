"""Know a model by what it is made of: one sha256 over everything that decides its vectors."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from pgembed.encoders.directory import ModelFiles


def file_sha256(path: Path) -> str:
    """Hash a file as a stream; an unchanged file is hashed once in a process."""
    stamp = path.stat()
    return _sha256(path, stamp.st_size, stamp.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, modified: int) -> str:
    """Hash a file; size and time of change are part of the cache's key."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(
    files: ModelFiles, *, pooling: str, prefixes: tuple[str, str], max_tokens: int, dimensions: int
) -> str:
    """Compute the hexadecimal sha256 of a model.

    It covers the bytes of graph, external tensors and tokenizer, and how they are used; names
    and places of files do not count, except for the names by which a graph finds its tensors.

    Args:
        files: The model's files.
        pooling: A name in ``POOLINGS``.
        prefixes: What is put before a query, and before a document.
        max_tokens: Longest input in tokens.
        dimensions: Length of a vector.
    """
    external = {
        path.relative_to(files.graph.parent).as_posix(): file_sha256(path)
        for path in files.external
    }
    parts = {
        "graph": file_sha256(files.graph),
        "external": external,
        "tokenizer": file_sha256(files.tokenizer),
        "pooling": pooling,
        "query_prefix": prefixes[0],
        "document_prefix": prefixes[1],
        "max_tokens": max_tokens,
        "dimensions": dimensions,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

"""Embeddings of the judged sets: encoded once and kept in files, so that benchmarks start fast."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.progress import track

from pgembed.encoders import Encoder, open_encoder
from pgembed.model import Vectors
from pgembed.server import default_home

BLOCK = 5_000
"""Texts a file: what an interruption can lose."""

FOLDER: Path = default_home().parent / "benchmark-vectors"


def embedded(name: str, texts: Sequence[str], *, queries: bool = False) -> Vectors:
    """Base embeddings of texts in their order, float32 (n, 384), kept as float16 between runs.

    A blank text, which an encoder refuses, is embedded as a full stop.
    """
    encoder: Encoder | None = None
    parts = []
    kind = "queries" if queries else "documents"
    for start in track(range(0, len(texts), BLOCK), description=f"Vectors of {name}, {kind}"):
        block = [text if text.strip() else "." for text in texts[start : start + BLOCK]]
        digest = hashlib.sha256("\0".join([kind, *block]).encode()).hexdigest()[:16]
        file = FOLDER / f"{name}-{kind}-{start}-{digest}.npy"
        if not file.exists():
            encoder = encoder or open_encoder("minilm")
            encode = encoder.encode_query if queries else encoder.encode_document
            FOLDER.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(".partial.npy")
            np.save(partial, encode(block).astype(np.float16))
            partial.rename(file)
        parts.append(np.load(file).astype(np.float32))
    return np.concatenate(parts)

"""Turn token states into one vector a text, and vectors into unit vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgembed.errors import InputError
from pgembed.model import Vectors

States = NDArray[np.float32]
"""Token states (n, tokens, d), or vectors (n, d) where the graph has pooled."""

Mask = NDArray[np.integer[Any]]
"""1 for a real token, 0 for padding on either side: (n, tokens)."""


def mean(states: States, mask: Mask) -> Vectors:
    """Average the states of the real tokens: (n, tokens, d) -> (n, d)."""
    weights = mask.astype(np.float32)
    count = np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
    pooled: Vectors = np.einsum("ntd,nt->nd", states, weights / count)
    return pooled


def cls(states: States, mask: Mask) -> Vectors:
    """Take the state of the first real token: (n, tokens, d) -> (n, d)."""
    first: Vectors = states[np.arange(len(states)), np.argmax(mask != 0, axis=1)]
    return first


def last(states: States, mask: Mask) -> Vectors:
    """Take the state of the last real token: (n, tokens, d) -> (n, d)."""
    from_the_end = np.argmax(mask[:, ::-1] != 0, axis=1)
    final: Vectors = states[np.arange(len(states)), mask.shape[1] - 1 - from_the_end]
    return final


def graph(states: States, mask: Mask) -> Vectors:
    """Return what the ONNX graph has pooled already: (n, d) -> (n, d)."""
    return states


POOLINGS: dict[str, Callable[[States, Mask], Vectors]] = {
    "mean": mean,
    "cls": cls,
    "last": last,
    "graph": graph,
}
"""Every known pooling by its name in ``pgembed.model.Pooling``."""


def unit(vectors: NDArray[np.floating[Any]]) -> Vectors:
    """Scale each row to Euclidean length 1: (n, d) -> (n, d) float32.

    Raises:
        InputError: A row is zero or holds NaN or infinity; it is named by its position.
    """
    wide = np.asarray(vectors, dtype=np.float64)
    lengths = np.sqrt(np.einsum("nd,nd->n", wide, wide))
    useless = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0.0))
    if useless.size:
        what = "is zero" if lengths[useless[0]] == 0.0 else "holds NaN or infinity"
        raise InputError(
            f"vector {useless[0]} {what}, so it has no direction",
            hint="leave this row out, or find out what made it",
        )
    scaled: Vectors = (wide / lengths[:, None]).astype(np.float32)
    return scaled

"""Read the weights of a prepared model's upper layers, by the names of transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from pgembed.encoders.adapters import projections
from pgembed.encoders.graphs import GraphReader
from pgembed.encoders.halves import UPPER, Manifest
from pgembed.errors import EncoderError
from pgembed.lora_expert import PARTS, slot_name

_NORMS = ("attention.output.LayerNorm", "output.LayerNorm")


def upper_weights(folder: Path, manifest: Manifest) -> dict[str, NDArray[np.float32]]:
    """Matrices (in, out), biases and layer normalisations of the layers from ``split`` on.

    Raises:
        EncoderError: A layer lacks one of them, so that it is none of a BERT.
    """
    model = onnx.load(folder / UPPER)
    reader, found = GraphReader(model.graph), projections(model)
    read: dict[str, NDArray[np.float32]] = {}
    for layer in range(manifest.split, manifest.layers):
        for part in PARTS:
            slot = slot_name(layer, part)
            projection = found.get(slot)
            if projection is None or projection.bias is None:
                raise _unlike(slot)
            read[f"{slot}.weight"] = _float32(reader, projection.matrix)
            read[f"{slot}.bias"] = _float32(reader, projection.bias)
        for norm in _NORMS:
            for part, old in (("weight", "gamma"), ("bias", "beta")):
                name = f"{slot_name(layer, norm)}"
                read[f"{name}.{part}"] = _norm(reader, [f"{name}.{part}", f"{name}.{old}"])
    return read


def _norm(reader: GraphReader, endings: list[str]) -> NDArray[np.float32]:
    """The one constant whose name ends so."""
    for ending in endings:
        for name in reader.constants():
            if name.endswith(ending):
                return _float32(reader, name)
    raise _unlike(endings[0])


def _float32(reader: GraphReader, name: str) -> NDArray[np.float32]:
    return np.ascontiguousarray(reader.constant(name), dtype=np.float32).copy()


def _unlike(name: str) -> EncoderError:
    return EncoderError(
        f"the prepared model has no {name}, so its layers cannot be trained",
        hint="LoRA experts can be trained on BERT and models of the same layers",
    )

"""Prepare a model for LoRA experts: write its two halves with adapter slots, and check them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pgembed.encoders.directory import model_files
from pgembed.encoders.encoder import Encoder
from pgembed.encoders.fingerprint import file_sha256
from pgembed.encoders.halves import (
    LOWER,
    MANIFEST,
    UPPER,
    VERSION,
    Halves,
    Manifest,
    check_files,
    read_manifest,
)
from pgembed.encoders.minilm import cache_folder
from pgembed.encoders.onnx import padded
from pgembed.encoders.stacks import Stack
from pgembed.errors import EncoderError
from pgembed.lora_expert import TARGETS, part_of

if TYPE_CHECKING:
    from onnx import ModelProto

FOLDER = "lora"
"""Beside the graph."""

DEFAULT_TARGETS = ("query", "value")
"""Projections that get a slot: those that LoRA's authors chose (arXiv 2106.09685, section 7.1)."""

TOLERANCE = 1e-5
"""Greatest difference of a base vector's number that another order of operations may make."""

LARGE = 1 << 30
"""Bytes of a graph from which on its tensors lie in a file of their own: protobuf ends at 2 GB."""

_SAMPLES = (
    "what keeps the doctor away",
    "a",
    "Vitamin D supplementation does not lower the risk of fractures in healthy adults.",
    "how does an index scan differ from a sequential scan, and when is each the better one? " * 4,
)


def lora_folder(encoder: Encoder) -> Path:
    """Where an encoder's prepared model lies: beside its graph, else in pgembed's cache.

    The cache serves models whose directory cannot be written, such as those of a system's user.
    """
    beside = encoder.graph.path.parent / FOLDER
    if (beside / MANIFEST).is_file() or os.access(beside.parent, os.W_OK):
        return beside
    return cache_folder() / f"{FOLDER}-{source_sha256(encoder)[:16]}"


def source_sha256(encoder: Encoder) -> str:
    """Hash of an encoder's graph with its external tensors, which a prepared model is made from."""
    graph = encoder.graph.path
    folder = graph.parent if (graph.parent / "tokenizer.json").is_file() else graph.parent.parent
    hashes = [file_sha256(path) for path in (graph, *model_files(folder).external)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def prepared(encoder: Encoder, folder: Path) -> Manifest:
    """The manifest of an encoder's prepared model, after a check of its files.

    Raises:
        EncoderError: There is none, it is damaged, or it was made from another graph.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    if manifest.source != source_sha256(encoder):
        raise EncoderError(
            f"{folder} was prepared from another graph than {encoder.graph.path}",
            hint="prepare the model again: pgembed encoder prepare SOURCE",
        )
    return manifest


def prepare(
    encoder: Encoder,
    *,
    split: int | None = None,
    targets: Sequence[str] = DEFAULT_TARGETS,
    folder: Path | None = None,
) -> Manifest:
    """Write an encoder's halves with adapter slots, unless they are there already as asked for.

    Adapters of layers from ``split`` on cost only the upper half of a pass, because the lower
    half is the base's. The halves share no weights.

    Args:
        encoder: Open.
        split: The first layer of the upper half; the middle by default.
        targets: Projections that get slots, in every layer: query, key, value, attention_output,
            intermediate, output.
        folder: Where to write; ``lora_folder`` by default.

    Raises:
        EncoderError: onnx is missing, the graph is none of a BERT-like model, it cannot be split
            there, the halves do not give the base's vectors, or the folder cannot be written.
    """
    place = folder or lora_folder(encoder)
    try:
        known = prepared(encoder, place)
    except EncoderError:
        known = None
    if known is not None and _as_asked(known, split, targets):
        return known
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place, prefix=".making-") as making:
            manifest = _make(encoder, Path(making), split, targets)
            # The manifest comes last: without it, a reader sees a model that is not prepared.
            (place / MANIFEST).unlink(missing_ok=True)
            for name in (*manifest.files, MANIFEST):
                shutil.move(Path(making) / name, place / name)
    except OSError as error:
        raise EncoderError(
            f"the prepared model cannot be written to {place}: {error.strerror}",
            hint="name another folder with --out",
        ) from error
    return manifest


def _as_asked(manifest: Manifest, split: int | None, targets: Sequence[str]) -> bool:
    wanted = {TARGETS.get(target, target) for target in targets}
    slots = {part_of(slot) for slot in manifest.slots}
    return slots == wanted and manifest.split == (manifest.layers // 2 if split is None else split)


def _make(encoder: Encoder, folder: Path, split: int | None, targets: Sequence[str]) -> Manifest:
    """Write both halves and the manifest into an empty folder."""
    adapters, model = _surgery(), _loaded(encoder.graph.path)
    found = adapters.projections(model)
    chosen = adapters.chosen(found, targets)
    layers = 1 + max(projection.layer for projection in found.values())
    first = layers // 2 if split is None else split
    whole = adapters.with_slots(model, chosen)
    lower, upper = adapters.halves(whole, found, first, encoder.graph.output)
    for name, half in ((LOWER, lower), (UPPER, upper)):
        _save(half, folder / name)
    cut = adapters.boundary(found, first)
    settings = _settings(model, encoder.graph.path)
    manifest = Manifest(
        version=VERSION,
        source=source_sha256(encoder),
        split=first,
        layers=layers,
        width=cut.width_in,
        slots={each.slot: [each.width_in, each.width_out] for each in chosen},
        hidden=cut.input,
        output=encoder.graph.output,
        heads=settings["heads"],
        epsilon=settings["epsilon"],
        files={path.name: file_sha256(path) for path in sorted(folder.iterdir())},
        base_difference=0.0,
    )
    manifest = replace(manifest, base_difference=_difference(encoder, Halves(folder, manifest)))
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _difference(encoder: Encoder, halves: Halves) -> float:
    """Compare base vectors of the halves with the encoder's own."""
    ids = encoder.tokens.ids(list(_SAMPLES), encoder.spec.query_prefix)
    rows, mask = padded(ids, encoder.graph.pad_id)
    base = [0] * len(rows)
    lower, upper = (Stack.of(halves.manifest.half(each)).inputs for each in (False, True))
    hidden = halves.lower(rows, mask, base, lower)
    states = halves.upper(hidden, rows, mask, base, upper)
    ours = encoder.unit(encoder.graph.pooled(states, mask))
    theirs = encoder.unit(encoder.graph.vectors(ids))
    difference = float(np.abs(ours - theirs).max())
    if not difference <= TOLERANCE:
        raise EncoderError(
            f"the halves of {encoder.graph.path} give other vectors: they differ by {difference:g}",
            hint="export the model again, without optimisation",
        )
    return difference


def _surgery() -> Any:
    try:
        from pgembed.encoders import adapters
    except ImportError as error:
        raise EncoderError(
            f"preparing a model needs the package {error.name}",
            hint="pip install 'pgembed-router[lora]'",
        ) from error
    return adapters


def _loaded(path: Path) -> ModelProto:
    import onnx

    return onnx.load(path)


def _save(model: ModelProto, path: Path) -> None:
    import onnx

    if model.ByteSize() < LARGE:
        path.write_bytes(model.SerializeToString(deterministic=True))
    else:
        onnx.save_model(
            model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0
        )


def _settings(model: ModelProto, path: Path) -> dict[str, Any]:
    """Heads and epsilon from the graph's own operators, else from ``config.json``."""
    attributes = {each.name: each for node in model.graph.node for each in node.attribute}
    config: dict[str, Any] = {}
    for folder in (path.parent, path.parent.parent):
        if not config and (folder / "config.json").is_file():
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    heads = attributes["num_heads"].i if "num_heads" in attributes else None
    epsilon = attributes["epsilon"].f if "epsilon" in attributes else None
    return {
        "heads": heads or config.get("num_attention_heads"),
        "epsilon": epsilon or config.get("layer_norm_eps", 1e-12),
    }

"""A prepared model: two graphs with adapter slots that share no layer, and their manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgembed.encoders.fingerprint import file_sha256
from pgembed.encoders.onnx import Matrix, feed_of, input_types, open_session
from pgembed.errors import EncoderError
from pgembed.lora_expert import layer_of

VERSION = 1
"""Of the manifest and of how graphs are prepared."""

MANIFEST, LOWER, UPPER = "manifest.json", "lower.onnx", "upper.onnx"

EXPERT_INPUT = "expert_id"
"""The graph input that chooses an expert for each text: int64, (texts,)."""

Hidden = NDArray[np.float32]
"""Token states between the halves: (texts, tokens, width)."""

Slots = Mapping[str, NDArray[np.float32]]
"""What the slot inputs get: A (experts, in, rank) and B (experts, rank, out), by input name."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a prepared model consists of."""

    version: int
    source: str
    """sha256 of the graph that it was made from."""
    split: int
    """The first layer of the upper half."""
    layers: int
    width: int
    """Of token states."""
    slots: Mapping[str, Sequence[int]]
    """Input and output width of each projection that takes adapters."""
    hidden: str
    """The value between the halves."""
    output: str
    """The value that the upper half gives."""
    heads: int | None
    """Attention heads, where the model's files say."""
    epsilon: float
    """Added to the variance in each layer normalisation."""
    files: Mapping[str, str]
    """sha256 of each file."""
    base_difference: float
    """Greatest difference of base vectors to those of the source, on samples; 0 bit for bit."""

    def half(self, upper: bool) -> dict[str, Sequence[int]]:
        """The slots of one half."""
        return {s: shape for s, shape in self.slots.items() if (layer_of(s) >= self.split) is upper}

    def to_json(self) -> str:
        """Write the manifest."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a prepared model, without a look at its other files.

    Raises:
        EncoderError: There is none, it is damaged, or of another version.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise EncoderError(
                f"{folder} was prepared by another version of pgembed", hint=_again()
            )
        return Manifest(**{field.name: content[field.name] for field in fields(Manifest)})
    except FileNotFoundError as error:
        raise EncoderError(f"{folder} holds no prepared model", hint=_again()) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderError(f"{path} is damaged: {error}", hint=_again()) from error


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compare the files of a prepared model with the hashes in its manifest.

    Raises:
        EncoderError: A file is missing or was changed.
    """
    for name, sha256 in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise EncoderError(f"{path} is missing", hint=_again())
        if file_sha256(path) != sha256:
            raise EncoderError(f"{path} was changed since it was prepared", hint=_again())


class Halves:
    """The two open graphs; safe to run from many threads.

    Args:
        folder: Where the prepared model lies.
        manifest: Its manifest.

    Raises:
        EncoderError: A graph cannot be loaded.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self._lower = open_session(folder / LOWER)
        self._upper = open_session(folder / UPPER)

    def lower(self, rows: Matrix, mask: Matrix, experts: Sequence[int], slots: Slots) -> Hidden:
        """Token ids to the states before layer ``split``."""
        return _run(self._lower, self.manifest.hidden, rows, mask, experts, slots)

    def upper(
        self, hidden: Hidden, rows: Matrix, mask: Matrix, experts: Sequence[int], slots: Slots
    ) -> NDArray[np.float32]:
        """The states before layer ``split`` to the model's output."""
        given = {self.manifest.hidden: hidden, **slots}
        return _run(self._upper, self.manifest.output, rows, mask, experts, given)


def input_name(slot: str, letter: str) -> str:
    """Name of the graph input that takes a slot's A, (experts, in, rank), or B."""
    return f"{slot}.lora_{letter}"


def _run(
    session: Any,
    output: str,
    rows: Matrix,
    mask: Matrix,
    experts: Sequence[int],
    given: Mapping[str, NDArray[np.float32]],
) -> NDArray[np.float32]:
    feed: dict[str, Any] = {**feed_of(input_types(session), rows, mask), **given}
    wanted = {value.name for value in session.get_inputs()}
    if EXPERT_INPUT in wanted:
        feed[EXPERT_INPUT] = np.asarray(experts, dtype=np.int64)
    try:
        (result,) = session.run([output], feed)
    except Exception as error:  # onnxruntime's exceptions share no public base
        raise EncoderError(
            f"the prepared model cannot run on {rows.shape[0]} texts of {rows.shape[1]} tokens:"
            f" {str(error).splitlines()[0]}",
            hint=_again(),
        ) from error
    return np.asarray(result, dtype=np.float32)


def _again() -> str:
    return "prepare the model: pgembed encoder prepare SOURCE"

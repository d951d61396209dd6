"""LoRA experts as bytes and as PEFT's folders: safetensors under PEFT's names."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgembed.errors import InputError
from pgembed.lora_expert import SLOT, LoraExpert

VERSION = 1
"""Of the artifact's layout."""

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""The two files of a PEFT adapter."""

_RECORD = "pgembed.lora"
"""The one entry of an artifact's metadata: safetensors writes several in no fixed order."""

_KEY = re.compile(rf"base_model\.model\.(?:[\w.]+\.)?({SLOT.pattern})\.lora_([AB])\.weight")
"""A tensor's name in PEFT; wrappers around the model may put ``bert.`` or the like before."""

_DTYPES: dict[str, Callable[[bytes], NDArray[Any]]] = {
    "F16": lambda data: np.frombuffer(data, "<f2"),
    "F32": lambda data: np.frombuffer(data, "<f4"),
    "F64": lambda data: np.frombuffer(data, "<f8"),
    # The upper half of a float32.
    "BF16": lambda data: (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4"),
}

_REFUSED = (
    "use_dora",
    "use_qalora",
    "lora_bias",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "fan_in_fan_out",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
    "megatron_config",
)
"""Settings of PEFT that make something else of an adapter than a low-rank residual a slot."""

_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Ways to initialise an adapter that leave the base model as it is."""


def lora_to_bytes(expert: LoraExpert) -> bytes:
    """Write an expert as the bytes of a safetensors file; equal experts give equal bytes."""
    record = {"alpha": expert.alpha, "rank": expert.rank, "version": VERSION}
    return _saved(expert, {_RECORD: json.dumps(record, sort_keys=True)})


def lora_from_bytes(data: bytes) -> LoraExpert:
    """Read what ``lora_to_bytes`` wrote.

    Raises:
        InputError: These are not the bytes of a LoRA expert, or they are damaged.
    """
    tensors = _tensors(data)
    record = _record(data)
    if record.get("version") != VERSION:
        raise InputError(
            f"the LoRA expert has layout version {record.get('version')}, this pgembed reads"
            f" {VERSION}",
            hint="upgrade pgembed, or import the expert again from its PEFT folder",
        )
    expert = _expert(tensors, _number(record.get("alpha"), "alpha"))
    _check_rank(expert, record.get("rank"))
    return expert


def import_peft(folder: Path) -> LoraExpert:
    """Read a LoRA adapter that PEFT has saved.

    Rank-stabilised adapters (arXiv 2312.03732) are read with the alpha that gives their scale.

    Args:
        folder: With ``adapter_config.json`` and ``adapter_model.safetensors``.

    Raises:
        InputError: A file is missing or damaged, or the adapter is more than low-rank residuals on
            the projections of a BERT: DoRA, biases, saved modules, embeddings, several ranks.
    """
    config = _config(folder / CONFIG)
    _check_config(config)
    rank = _number(config.get("r"), "r")
    alpha = _number(config.get("lora_alpha"), "lora_alpha")
    if config.get("use_rslora"):
        alpha *= math.sqrt(rank)
    expert = _expert(_tensors(_read(folder / WEIGHTS)), alpha)
    _check_rank(expert, config.get("r"))
    return expert


def export_peft(expert: LoraExpert, folder: Path, base_model: str) -> None:
    """Write an expert as a folder that PEFT reads, with ``PeftModel.from_pretrained``.

    Args:
        expert: The expert.
        folder: Made when it does not exist; its two files are replaced.
        base_model: The model's name in transformers, such as
            ``sentence-transformers/all-MiniLM-L6-v2``.
    """
    config = {
        "peft_type": "LORA",
        "task_type": "FEATURE_EXTRACTION",
        "base_model_name_or_path": base_model,
        "r": expert.rank,
        "lora_alpha": int(expert.alpha) if expert.alpha.is_integer() else expert.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        # Whole names: "output.dense" alone would also mean "attention.output.dense".
        "target_modules": list(expert.slots),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / WEIGHTS).write_bytes(_saved(expert, {"format": "pt"}))


def _saved(expert: LoraExpert, metadata: dict[str, str]) -> bytes:
    tensors = {
        f"base_model.model.{slot}.lora_{letter}.weight": np.ascontiguousarray(matrix.T)
        for letter, matrices in (("A", expert.A), ("B", expert.B))
        for slot, matrix in matrices.items()
    }
    data: bytes = _library().numpy.save(tensors, metadata)
    return data


def _tensors(data: bytes) -> dict[str, NDArray[np.float32]]:
    """Read every tensor as float32."""
    library = _library()
    try:
        stored: list[tuple[str, Any]] = library.deserialize(bytes(data))
    except library.SafetensorError as error:
        raise InputError(
            f"these {len(data)} bytes are not a safetensors file: {error}",
            hint="export or train the expert again",
        ) from error
    return {name: _array(name, each) for name, each in stored}


def _library() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise InputError(
            "LoRA experts need the package safetensors", hint="pip install 'pgembed-router[lora]'"
        ) from error
    return safetensors


def _array(name: str, stored: Mapping[str, Any]) -> NDArray[np.float32]:
    if stored["dtype"] not in _DTYPES:
        raise InputError(
            f"tensor {name} is of type {stored['dtype']}",
            hint=f"save the adapter in one of {', '.join(_DTYPES)}",
        )
    values = _DTYPES[stored["dtype"]](bytes(stored["data"]))
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
        return values.reshape(stored["shape"]).astype(np.float32)


def _record(data: bytes) -> Mapping[str, Any]:
    """The metadata of an artifact that safetensors could read."""
    size = int.from_bytes(data[:8], "little")
    metadata = json.loads(bytes(data[8 : 8 + size])).get("__metadata__", {})
    try:
        record = json.loads(metadata.get(_RECORD, ""))
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise InputError(
            "these bytes are a safetensors file, but no LoRA expert of pgembed",
            hint="import the folder of a PEFT adapter: pgembed expert import DIR NAME --kind lora",
        )
    return record


def _expert(tensors: Mapping[str, NDArray[np.float32]], alpha: float) -> LoraExpert:
    """Sort tensors by slot, refusing what is no half of a low-rank residual."""
    halves: dict[str, dict[str, NDArray[np.float32]]] = {"A": {}, "B": {}}
    for name, values in tensors.items():
        found = _KEY.fullmatch(name)
        if found is None:
            raise InputError(
                f"tensor {name} is no part of a LoRA adapter on a BERT's projections",
                hint="adapters with biases, DoRA magnitudes, embeddings or saved modules, or of"
                " another architecture, cannot be used",
            )
        slot, letter = found[1], found[4]
        if slot in halves[letter]:
            raise InputError(f"slot {slot} has two matrices {letter}")
        if values.ndim != 2:
            raise InputError(f"tensor {name} is a matrix, not of shape {values.shape}")
        halves[letter][slot] = values.T
    return LoraExpert(halves["A"], halves["B"], alpha)


def _check_rank(expert: LoraExpert, stated: Any) -> None:
    if expert.rank != stated:
        raise InputError(f"the adapter says rank {stated}, but its matrices have {expert.rank}")


def _check_config(config: Mapping[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise InputError(
            f"the adapter is of type {config.get('peft_type')}", hint="only LORA can be imported"
        )
    refused = [name for name in _REFUSED if config.get(name)]
    if config.get("bias", "none") != "none":
        refused.append("bias")
    if config.get("init_lora_weights", True) not in _PLAIN_STARTS:
        refused.append("init_lora_weights")
    if refused:
        settings = ", ".join(f"{name} = {json.dumps(config[name])}" for name in refused)
        raise InputError(
            f"the adapter is more than a low-rank residual: {settings}",
            hint="train it without these settings",
        )


def _config(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(_read(path))
    except ValueError as error:
        raise InputError(f"{path} is no json: {error}", hint="save the adapter again") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} holds no settings", hint="save the adapter again")
    return config


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}",
            hint=f"name a folder with {CONFIG} and {WEIGHTS}, as PEFT's save_pretrained writes it",
        ) from error


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise InputError(f"{name} of the adapter is a number above 0, not {value!r}")
    return float(value)

"""Read a model directory: which files it has, and how its model wants to be used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgembed.encoders.external import external_files
from pgembed.errors import EncoderError
from pgembed.model import Pooling

MOST_TOKENS = 8192
"""Upper bound of max tokens; tokenizer files name values like 1e30 when there is none."""

DEFAULT_TOKENS = 512
"""Positions of BERT and its family, when no file names a number."""

_GRAPHS = ("model.onnx", "onnx/model.onnx")
_MODULES = ("Transformer", "Pooling", "Normalize")

_POOLING_MODES: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    # The square root of the length scales a vector, it does not turn it.
    "pooling_mode_mean_sqrt_len_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean",
    "cls": "cls",
    "lasttoken": "last",
}
"""What sentence-transformers calls the poolings, in the older and the newer form of its file."""

_PROMPTS = {"query": ("query",), "document": ("document", "passage", "corpus")}
"""Names under which a model's prompts are found, as sentence-transformers looks them up."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files that make a model."""

    folder: Path
    graph: Path
    tokenizer: Path
    external: tuple[Path, ...]
    """Files that hold tensors of the graph."""


def model_files(folder: Path) -> ModelFiles:
    """Find graph, tokenizer and external tensors.

    Raises:
        EncoderError: A file is missing, the graph is corrupt, or it reaches outside ``folder``.
    """
    graph = next((folder / name for name in _GRAPHS if (folder / name).is_file()), None)
    if graph is None:
        raise EncoderError(
            f"{folder} has neither {_GRAPHS[0]} nor {_GRAPHS[1]}",
            hint="export the model to ONNX, for example with optimum-cli",
        )
    tokenizer = folder / "tokenizer.json"
    if not tokenizer.is_file():
        raise EncoderError(
            f"{folder} has no tokenizer.json",
            hint="save the tokenizer in its fast form into this directory",
        )
    return ModelFiles(folder, graph, tokenizer, tuple(external_files(graph)))


def configured_pooling(folder: Path) -> Pooling | None:
    """Read the pooling from a directory in sentence-transformers' layout; None when it has none.

    Raises:
        EncoderError: The model pools, or goes on after pooling, in a way that is not supported.
    """
    config = _read(_pooling_folder(folder) / "config.json")
    if not config:
        return None
    modes = _modes(config)
    known = {_POOLING_MODES[mode] for mode in modes if mode in _POOLING_MODES}
    if len(modes) != 1 or not known:
        raise EncoderError(
            f"{folder} pools by {' and '.join(modes) or 'nothing'}, which is not supported",
            hint="pass pooling='mean', 'cls' or 'last', or export a graph that pools by itself",
        )
    return known.pop()


def configured_prefix(folder: Path, kind: str) -> str:
    """Read the prompt that the model wants before a ``query`` or a ``document``; "" for none."""
    config = _read(folder / "config_sentence_transformers.json")
    prompts = config.get("prompts") or {}
    names = [*_PROMPTS[kind], config.get("default_prompt_name")]
    return str(next((prompts[name] for name in names if prompts.get(name)), ""))


def configured_max_tokens(folder: Path, wanted: int | None = None) -> int:
    """Choose the longest input in tokens, special tokens included.

    Args:
        folder: The model's directory.
        wanted: The caller's own choice; None for what the model's files name.

    Raises:
        EncoderError: ``wanted`` is beyond what the model has positions for.
    """
    positions = _sane(_read(folder / "config.json").get("max_position_embeddings"))
    if wanted is not None:
        most = min(positions or MOST_TOKENS, MOST_TOKENS)
        if not 1 <= wanted <= most:
            raise EncoderError(
                f"max_tokens {wanted} is not possible with the model in {folder}",
                hint=f"pass 1 to {most}",
            )
        return wanted
    own = _sane(_read(folder / "sentence_bert_config.json").get("max_seq_length"))
    general = _sane(_read(folder / "tokenizer_config.json").get("model_max_length"))
    named = [number for number in (own or general, positions) if number is not None]
    return min(named, default=DEFAULT_TOKENS)


def _sane(number: Any) -> int | None:
    """Take a number of tokens seriously, up to ``MOST_TOKENS``; None for absurd or missing ones."""
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < 1e9:
        return None
    return min(int(number), MOST_TOKENS)


def _pooling_folder(folder: Path) -> Path:
    """Find the directory of the pooling module, refusing modules that would be left out."""
    modules = _read(folder / "modules.json")
    entries = modules if isinstance(modules, list) else []
    kinds = {str(entry.get("type", "")).rpartition(".")[2]: entry for entry in entries}
    foreign = [kind for kind in kinds if kind not in _MODULES]
    if foreign:
        raise EncoderError(
            f"{folder} goes on with {' and '.join(foreign)}, which is not supported",
            hint="export a graph that does this by itself and gives sentence_embedding",
        )
    return folder / str(kinds.get("Pooling", {}).get("path") or "1_Pooling")


def _modes(config: Mapping[str, Any]) -> list[str]:
    """List the pooling modes that a pooling config switches on."""
    mode = config.get("pooling_mode")
    if mode is not None:
        return [mode] if isinstance(mode, str) else [str(part) for part in mode]
    return [key for key, value in config.items() if key.startswith("pooling_mode_") and value]


def _read(path: Path) -> Any:
    """Read a JSON file, {} when there is none.

    Raises:
        EncoderError: The file is no JSON.
    """
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EncoderError(
            f"{path} is corrupt: {error}",
            hint="fetch the file again from where the model came from",
        ) from error

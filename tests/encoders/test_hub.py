"""Models of the hub are found in its cache; what is missing is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from pgembed.encoders import open_encoder
from pgembed.errors import EncoderError
from tests.encoders.tiny import make_tiny_encoder

pytest.importorskip("huggingface_hub")

OPEN = """
import sys
from pgembed.encoders import open_encoder
from pgembed.errors import EncoderError
try:
    spec = open_encoder("hf:owner/tiny-model").spec
    print(spec.name, spec.source, spec.fingerprint)
except EncoderError as error:
    print(type(error.__cause__).__name__, error)
"""


def run(script: str, home: Path, **environment: str) -> str:
    """Run a script with a hub's cache of its own and no network."""
    variables = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", script], env=variables, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def fill_cache(home: Path, model: Path) -> None:
    """Lay a model into the hub's cache as its client does: links to blobs."""
    repository = home / "hub" / "models--owner--tiny-model"
    commit = "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "blobs").mkdir()
    for number, file in enumerate(path for path in model.rglob("*") if path.is_file()):
        link = repository / "snapshots" / commit / file.relative_to(model)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, repository / "blobs" / str(number))
        link.symlink_to(repository / "blobs" / str(number))


@pytest.mark.parametrize("external", [False, True])
def test_a_cached_model_opens_without_network(tmp_path: Path, external: bool) -> None:
    """Same fingerprint as the directory, also where tensors lie outside the graph."""
    model = make_tiny_encoder(tmp_path / "model")
    if external:
        onnx.save_model(
            onnx.load(model / "model.onnx"),
            model / "model.onnx",
            save_as_external_data=True,
            location="model.onnx_data",
            size_threshold=1024,
        )
    fill_cache(tmp_path, model)
    fingerprint = open_encoder(str(model)).spec.fingerprint
    assert run(OPEN, tmp_path) == f"tiny-model hf:owner/tiny-model {fingerprint}"


def test_a_model_that_cannot_be_fetched_is_explained(tmp_path: Path) -> None:
    """Name, reason and remedy, with the client's own error as cause."""
    said = run(OPEN, tmp_path)
    assert "hf:owner/tiny-model cannot be fetched" in said
    assert "Hint: check the name and the network" in said
    assert not said.startswith("NoneType")


def test_the_missing_package_is_named(tmp_path: Path) -> None:
    """The hint is the command that installs it."""
    said = run("import sys\nsys.modules['huggingface_hub'] = None\n" + OPEN, tmp_path)
    assert "pip install 'pgembed-router[hub]'" in said


@pytest.mark.parametrize("source", ["hf:", "hf:tiny", "hf:a/b/c", "hf:../a b"])
def test_a_name_that_is_no_repository_is_refused(source: str) -> None:
    """Before anything is fetched."""
    with pytest.raises(EncoderError, match="names no repository"):
        open_encoder(source)

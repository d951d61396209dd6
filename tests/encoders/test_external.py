"""Tensors outside the graph are found, belong to the model, and never lie elsewhere."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgembed.encoders import open_encoder
from pgembed.encoders.external import external_files
from pgembed.errors import EncoderError
from tests.encoders.tiny import make_tiny_encoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model whose tensors lie in ``weights.bin`` beside the graph."""
    made = make_tiny_encoder(tmp_path / "model")
    model = onnx.load(made / "model.onnx")
    onnx.save_model(
        model,
        made / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=1024,
    )
    return made


def relocate(folder: Path, location: str) -> None:
    """Point every external tensor elsewhere, as an attacker would."""
    path = folder / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())


def test_external_tensors_are_loaded_and_fingerprinted(folder: Path, tmp_path: Path) -> None:
    """The vectors are those of the whole model; a changed weight is another model."""
    assert external_files(folder / "model.onnx") == [folder / "weights.bin"]
    encoder = open_encoder(str(folder))
    whole = open_encoder(str(make_tiny_encoder(tmp_path / "whole")))
    assert np.array_equal(encoder.encode_query(["butter"]), whole.encode_query(["butter"]))
    data = bytearray((folder / "weights.bin").read_bytes())
    data[1000] ^= 1
    (folder / "weights.bin").write_bytes(data)
    assert open_encoder(str(folder)).spec.fingerprint != encoder.spec.fingerprint


@pytest.mark.parametrize(
    "location",
    [
        "/etc/passwd",
        "../weights.bin",
        "a/../../b",
        "..\\weights.bin",
        "C:\\weights",
        "\\\\h\\s",
        "",
    ],
)
def test_tensors_outside_the_directory_are_refused(folder: Path, location: str) -> None:
    """Absolute paths, drives and ``..`` are refused before anything is loaded."""
    relocate(folder, location)
    with pytest.raises(EncoderError, match="outside its directory") as raised:
        open_encoder(str(folder))
    assert repr(location) in str(raised.value)


def test_a_missing_file_of_tensors_is_named(folder: Path) -> None:
    """The message says which file belongs beside the graph."""
    (folder / "weights.bin").unlink()
    with pytest.raises(EncoderError, match=r"weights\.bin, which is missing"):
        open_encoder(str(folder))


def test_tensors_inside_attributes_are_found(tmp_path: Path) -> None:
    """A constant of a branch of an If node cannot hide its file."""
    tensor = onnx.TensorProto(name="t", data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../hidden")
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Constant", [], ["c"], value=tensor)], "inner", [], []
    )
    outer = onnx.helper.make_graph(
        [onnx.helper.make_node("If", ["x"], ["y"], then_branch=inner)], "outer", [], []
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx.helper.make_model(outer).SerializeToString())
    with pytest.raises(EncoderError, match=r"\.\./hidden"):
        external_files(path)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    """Nothing but an EncoderError comes out of a file that is no graph."""
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(data)
    with suppress(EncoderError):
        assert external_files(path) == []

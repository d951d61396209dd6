"""Opening finds the model and reads how it wants to be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest

from pgembed.encoders import open_encoder
from pgembed.errors import EncoderError
from pgembed.model import Pooling
from pgembed.pooling import POOLINGS
from tests.encoders.tiny import make_tiny_encoder

TEXTS = ["restore a backup", "the court and the contract", "butter"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model directory to break."""
    return make_tiny_encoder(tmp_path / "model")


def write(path: Path, content: Any) -> None:
    """Replace a configuration file."""
    path.write_text(json.dumps(content))


def test_poolings_are_those_of_the_model() -> None:
    """Every pooling that a spec may name has its function."""
    assert set(POOLINGS) == set(get_args(Pooling))


def test_the_same_source_gives_the_same_object(folder: Path) -> None:
    """Also when an argument repeats what the model's files say."""
    first = open_encoder(str(folder))
    assert open_encoder(str(folder)) is first
    spec = first.spec
    again = open_encoder(
        spec.source,
        name=spec.name,
        pooling=spec.pooling,
        query_prefix=spec.query_prefix,
        document_prefix=spec.document_prefix,
        max_tokens=spec.max_tokens,
        dimensions=spec.dimensions,
    )
    assert again is first
    assert open_encoder(str(folder), name="other") is not first


def test_a_changed_directory_is_opened_anew(folder: Path) -> None:
    """Another model in its place is another encoder with another fingerprint."""
    first = open_encoder(str(folder))
    make_tiny_encoder(folder, seed=1)
    second = open_encoder(str(folder))
    assert second is not first
    assert second.spec.fingerprint != first.spec.fingerprint


@pytest.mark.parametrize("token_type_ids", [False, True])
@pytest.mark.parametrize("pooling", get_args(Pooling))
def test_every_pooling_is_read_from_the_directory(
    tmp_path: Path, pooling: Pooling, token_type_ids: bool
) -> None:
    """Mean, cls, last and a pooling graph all see real tokens alone."""
    made = make_tiny_encoder(tmp_path / "m", pooling=pooling, token_type_ids=token_type_ids)
    encoder = open_encoder(str(made))
    assert encoder.spec.pooling == pooling
    mean = open_encoder(str(make_tiny_encoder(tmp_path / "mean")))
    similar = np.sum(encoder.encode_query(TEXTS) * mean.encode_query(TEXTS), axis=1)
    assert similar.min() > 0.98


def test_an_argument_overrides_the_pooling(folder: Path) -> None:
    """The caller knows best, and the fingerprint tells the two apart."""
    first, other = open_encoder(str(folder)), open_encoder(str(folder), pooling="cls")
    assert other.spec.pooling == "cls"
    assert other.spec.fingerprint != first.spec.fingerprint
    assert not np.array_equal(first.encode_query(TEXTS), other.encode_query(TEXTS))


def test_a_graph_below_onnx_is_found(folder: Path) -> None:
    """The layout of the hub's exports gives the same vectors and fingerprint."""
    spec = open_encoder(str(folder), name="a").spec
    (folder / "onnx").mkdir()
    shutil.move(folder / "model.onnx", folder / "onnx" / "model.onnx")
    assert open_encoder(str(folder), name="a").spec == spec


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean"),
    ],
)
def test_newer_and_rarer_pooling_files_are_read(
    folder: Path, config: dict[str, Any], pooling: str
) -> None:
    """Both forms of sentence-transformers' file, and a mean that differs in length only."""
    write(folder / "1_Pooling" / "config.json", config)
    assert open_encoder(str(folder)).spec.pooling == pooling


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"sentence_bert_config.json": {"max_seq_length": 64}}, 64),
        ({"tokenizer_config.json": {"model_max_length": 100}}, 100),
        ({"tokenizer_config.json": {"model_max_length": 1e30}}, 4096),
        ({"config.json": {"max_position_embeddings": 77}}, 77),
        ({"config.json": {"max_position_embeddings": 514}, "tokenizer_config.json":
            {"model_max_length": 512}}, 512),
        ({"config.json": {"max_position_embeddings": 99_000}}, 8192),
        ({"config.json": {}}, 512),
    ],
)  # fmt: skip
def test_max_tokens_are_read_with_sense(folder: Path, files: dict[str, Any], expected: int) -> None:
    """sentence-transformers' own file first, then tokenizer and positions; never above 8192."""
    (folder / "sentence_bert_config.json").unlink()
    for name, content in files.items():
        write(folder / name, content)
    assert open_encoder(str(folder)).spec.max_tokens == expected


def test_dimensions_keep_the_leading_part(folder: Path) -> None:
    """Fewer dimensions are the first ones at unit length."""
    short = open_encoder(str(folder), dimensions=8).encode_query(TEXTS)
    full = open_encoder(str(folder)).encode_query(TEXTS)[:, :8]
    np.testing.assert_allclose(short, full / np.linalg.norm(full, axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"query_prefix": "q: "},
        {"document_prefix": "d: "},
        {"max_tokens": 64},
        {"dimensions": 16},
        {"pooling": "last"},
    ],
)
def test_the_fingerprint_covers_how_a_model_is_used(folder: Path, change: dict[str, Any]) -> None:
    """Whatever decides a vector changes it; name, place and threads do not."""
    plain = open_encoder(str(folder)).spec.fingerprint
    assert open_encoder(str(folder), **change).spec.fingerprint != plain
    assert open_encoder(str(folder), name="other", threads=3).spec.fingerprint == plain
    moved = shutil.copytree(folder, folder.parent / "moved")
    assert open_encoder(str(moved)).spec.fingerprint == plain


def test_the_fingerprint_covers_graph_and_tokenizer(folder: Path, tmp_path: Path) -> None:
    """One byte more in either is another model; making it twice is the same."""
    plain = open_encoder(str(folder)).spec.fingerprint
    assert open_encoder(str(make_tiny_encoder(tmp_path / "twin"))).spec.fingerprint == plain
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + "\n")
    assert open_encoder(str(folder)).spec.fingerprint != plain
    other = make_tiny_encoder(tmp_path / "seeded", seed=1)
    assert open_encoder(str(other)).spec.fingerprint != plain


def test_positions_and_narrow_integers_are_fed(folder: Path) -> None:
    """A graph may want position_ids, and int32 instead of int64."""
    model = onnx.load(folder / "model.onnx")
    for value in model.graph.input:
        value.type.tensor_type.elem_type = onnx.TensorProto.INT32
    model.graph.input.append(
        onnx.helper.make_tensor_value_info("position_ids", onnx.TensorProto.INT64, ["n", "t"])
    )
    onnx.save(model, folder / "model.onnx")
    assert open_encoder(str(folder)).encode_query(TEXTS).shape == (3, 32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dimensions": 33}, "gives 32 dimensions, not 33"),
        ({"dimensions": 0}, "gives 32 dimensions, not 0"),
        ({"pooling": "max"}, "no pooling 'max'"),
        ({"pooling": "graph"}, "no output for pooling graph"),
        ({"max_tokens": 5000}, "max_tokens 5000 is not possible"),
        ({"max_tokens": 2}, "2 tokens leave no room"),
        ({"threads": 0}, "0 threads"),
    ],
)
def test_impossible_arguments_are_explained(
    folder: Path, arguments: dict[str, Any], message: str
) -> None:
    """The value is named, and what is possible instead."""
    with pytest.raises(EncoderError, match=message) as raised:
        open_encoder(str(folder), **arguments)
    assert raised.value.hint


def test_an_unknown_source_is_explained(tmp_path: Path) -> None:
    """The hint lists the three kinds of source."""
    with pytest.raises(EncoderError, match=r"no such directory.*\nHint: pass 'minilm', 'hf:owner"):
        open_encoder(str(tmp_path / "nowhere"))

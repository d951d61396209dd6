"""A model directory that is damaged or not supported is explained, not guessed at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from pgembed.encoders import open_encoder
from pgembed.errors import EncoderError
from tests.encoders.tiny import make_tiny_encoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model directory to break."""
    return make_tiny_encoder(tmp_path / "model")


def break_missing_graph(folder: Path) -> None:
    """No graph."""
    (folder / "model.onnx").unlink()


def break_missing_tokenizer(folder: Path) -> None:
    """No tokenizer."""
    (folder / "tokenizer.json").unlink()


def break_corrupt_graph(folder: Path) -> None:
    """Bytes that are no protobuf."""
    (folder / "model.onnx").write_bytes(b"\x0e" + b"no graph" * 100)


def break_truncated_graph(folder: Path) -> None:
    """A download that broke off."""
    data = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(data[: len(data) // 2])


def break_empty_graph(folder: Path) -> None:
    """A download that never began."""
    (folder / "model.onnx").write_bytes(b"")


def break_session(folder: Path) -> None:
    """An operator that no runtime knows."""
    model = onnx.load(folder / "model.onnx")
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, folder / "model.onnx")


def break_tokenizer(folder: Path) -> None:
    """JSON that is no tokenizer."""
    (folder / "tokenizer.json").write_text('{"model": 7}')


def break_configuration(folder: Path) -> None:
    """A configuration that is no JSON."""
    (folder / "sentence_bert_config.json").write_text("{")


def break_pooling(folder: Path) -> None:
    """A pooling that is not supported."""
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))


def break_two_poolings(folder: Path) -> None:
    """Two poolings side by side, whose vectors would be joined."""
    both = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(both))


def break_no_pooling(folder: Path) -> None:
    """Token states, and nothing that says how to pool them."""
    (folder / "1_Pooling" / "config.json").unlink()


def break_modules(folder: Path) -> None:
    """A layer after pooling, which would be left out."""
    dense = {"idx": 2, "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps([dense]))


def break_inputs(folder: Path) -> None:
    """A graph that looks at pictures."""
    model = onnx.load(folder / "model.onnx")
    model.graph.input.append(
        onnx.helper.make_tensor_value_info("pixel_values", onnx.TensorProto.FLOAT, ["n"])
    )
    onnx.save(model, folder / "model.onnx")


def break_rank(folder: Path) -> None:
    """An output that is neither states nor vectors."""
    model = onnx.load(folder / "model.onnx")
    model.graph.node.append(onnx.helper.make_node("Unsqueeze", ["average", "two"], ["deep"]))
    model.graph.output.pop()
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("deep", onnx.TensorProto.FLOAT, ["n", 1, 1, 32])
    )
    onnx.save(model, folder / "model.onnx")


def break_lying_shape(folder: Path) -> None:
    """Vectors under the name of token states, of no stated rank."""
    model = onnx.load(folder / "model.onnx")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    squeeze = onnx.helper.make_node("Squeeze", ["average", "one"], ["last_hidden_state"])
    model.graph.node.pop()
    model.graph.node.append(squeeze)
    onnx.save(model, folder / "model.onnx")


def break_vocabulary(folder: Path) -> None:
    """A graph with fewer words than the tokenizer."""
    model = onnx.load(folder / "model.onnx")
    table = next(tensor for tensor in model.graph.initializer if tensor.name == "table")
    table.dims[0] = 2
    table.raw_data = table.raw_data[: 2 * 4 * 32]
    onnx.save(model, folder / "model.onnx")


@pytest.mark.parametrize(
    ("damage", "message", "caused"),
    [
        (break_missing_graph, "has neither model.onnx nor onnx/model.onnx", False),
        (break_missing_tokenizer, "has no tokenizer.json", False),
        (break_corrupt_graph, "model.onnx is corrupt", True),
        (break_truncated_graph, "model.onnx is corrupt", True),
        (break_empty_graph, "model.onnx is corrupt", False),
        (break_session, "cannot be loaded", True),
        (break_tokenizer, "tokenizer .*tokenizer.json is corrupt", True),
        (break_configuration, "sentence_bert_config.json is corrupt", True),
        (break_pooling, "pools by pooling_mode_max_tokens", False),
        (break_two_poolings, "pooling_mode_mean_tokens and pooling_mode_cls_token", False),
        (break_no_pooling, "says how its token states are pooled", False),
        (break_modules, "goes on with Dense", False),
        (break_inputs, "wants inputs input_ids, attention_mask, pixel_values", False),
        (break_rank, "it gives deep of rank 4", False),
        (break_lying_shape, r"has shape \(1, 32\)", False),
        (break_vocabulary, "cannot run on 1 texts", True),
    ],
)
def test_a_broken_directory_is_explained(
    folder: Path, damage: Callable[[Path], None], message: str, caused: bool
) -> None:
    """One sentence with the file, a hint, and the cause where another library complained."""
    damage(folder)
    with pytest.raises(EncoderError, match=message) as raised:
        open_encoder(str(folder))
    assert raised.value.hint
    assert (raised.value.__cause__ is not None) == caused

"""Build the ONNX graph of a BERT sentence encoder from its weights, with numpy alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

Weights = Mapping[str, NDArray[np.float32]]
"""Tensors by the names that transformers gives them, such as ``encoder.layer.0...weight``."""

OPSET = 20
"""The first with Gelu."""

IR_VERSION = 10
"""Of ONNX 1.16: stated, so that a newer onnx package writes the same bytes."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a BERT that its weights do not show."""

    layers: int
    heads: int
    epsilon: float
    """Added to the variance in each layer normalisation."""


MINILM = Shape(layers=6, heads=12, epsilon=1e-12)
"""config.json of sentence-transformers/all-MiniLM-L6-v2."""


class _Writer:
    """Collects nodes and tensors; node names follow from their order, so bytes are repeatable."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.tensors: list[TensorProto] = []

    def tensor(self, name: str, values: NDArray[Any]) -> str:
        """Add a constant and return its name."""
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its one output."""
        result = output or f"{operator.lower()}_{len(self.nodes)}"
        domain = "com.microsoft" if operator == "MultiHeadAttention" else ""
        self.nodes.append(
            helper.make_node(
                operator, inputs, [result], name=f"node_{result}", domain=domain, **attributes
            )
        )
        return result


def sentence_encoder(weights: Weights, shape: Shape) -> bytes:
    """Serialise a graph from token ids to unit vectors; the same weights give the same bytes.

    Inputs are ``input_ids`` and ``attention_mask``, int64 (n, tokens); the output is
    ``sentence_embedding``, float32 (n, d): the mean over real tokens at unit length (BERT as in
    Devlin et al. 2019, mean pooling as in Reimers and Gurevych 2019, section 3). Matrices are
    stored as float16 and widened once, when the session loads: half the file at the same speed;
    stored as int8 they turn vectors by up to a cosine of .998.
    """
    writer = _Writer()
    state = _embeddings(writer, weights, shape)
    mask = writer.node("Cast", "attention_mask", to=TensorProto.INT32)
    for number in range(shape.layers):
        state = _layer(writer, weights, shape, state, mask, f"encoder.layer.{number}")
    _unit_mean(writer, state)
    dimensions = weights["embeddings.word_embeddings.weight"].shape[1]
    return _serialised(writer, dimensions)


def _embeddings(writer: _Writer, weights: Weights, shape: Shape) -> str:
    """Add up word, position and segment embeddings; there is one segment."""
    words = weights["embeddings.word_embeddings.weight"].astype(np.float16)
    gathered = writer.node("Gather", writer.tensor("words", words), "input_ids", axis=0)
    positions = (
        weights["embeddings.position_embeddings.weight"]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    begin = writer.tensor("begin", np.array([0], dtype=np.int64))
    length = writer.node("Shape", "input_ids", start=1, end=2)
    placed = writer.node("Slice", writer.tensor("positions", positions), begin, length, begin)
    wide = writer.node("Cast", gathered, to=TensorProto.FLOAT)
    summed = writer.node("Add", wide, placed)
    return _normalised(writer, weights, shape, summed, "embeddings.LayerNorm")


def _layer(
    writer: _Writer, weights: Weights, shape: Shape, state: str, mask: str, name: str
) -> str:
    """Add one transformer layer: self-attention and feed-forward, each with its residual."""
    query, key, value = (
        _linear(writer, weights, state, f"{name}.attention.self.{part}")
        for part in ("query", "key", "value")
    )
    attended = writer.node("MultiHeadAttention", query, key, value, "", mask, num_heads=shape.heads)
    attention = f"{name}.attention.output"
    added = writer.node("Add", _linear(writer, weights, attended, f"{attention}.dense"), state)
    state = _normalised(writer, weights, shape, added, f"{attention}.LayerNorm")
    inner = writer.node("Gelu", _linear(writer, weights, state, f"{name}.intermediate.dense"))
    added = writer.node("Add", _linear(writer, weights, inner, f"{name}.output.dense"), state)
    return _normalised(writer, weights, shape, added, f"{name}.output.LayerNorm")


def _linear(writer: _Writer, weights: Weights, state: str, name: str) -> str:
    """Add a dense projection whose matrix is stored as float16."""
    matrix = weights[f"{name}.weight"].T.astype(np.float16)
    stored = writer.tensor(f"{name}.weight.float16", matrix)
    wide = writer.node("Cast", stored, output=f"{name}.weight", to=TensorProto.FLOAT)
    bias = writer.tensor(f"{name}.bias", weights[f"{name}.bias"])
    return writer.node("Add", writer.node("MatMul", state, wide), bias)


def _normalised(writer: _Writer, weights: Weights, shape: Shape, state: str, name: str) -> str:
    """Add a layer normalisation."""
    scale = writer.tensor(f"{name}.weight", weights[f"{name}.weight"])
    bias = writer.tensor(f"{name}.bias", weights[f"{name}.bias"])
    return writer.node("LayerNormalization", state, scale, bias, axis=-1, epsilon=shape.epsilon)


def _unit_mean(writer: _Writer, state: str) -> None:
    """Add the sum over real tokens at unit length: the mean points the same way."""
    axis = writer.tensor("token_axis", np.array([1], dtype=np.int64))
    last_axis = writer.tensor("last_axis", np.array([-1], dtype=np.int64))
    column = writer.node("Unsqueeze", "attention_mask", last_axis)
    real = writer.node("Mul", state, writer.node("Cast", column, to=TensorProto.FLOAT))
    total = writer.node("ReduceSum", real, axis, keepdims=0)
    length = writer.node("ReduceL2", total, last_axis, keepdims=1)
    smallest = writer.tensor("smallest_length", np.array(1e-12, dtype=np.float32))
    writer.node("Div", total, writer.node("Max", length, smallest), output="sentence_embedding")


def _serialised(writer: _Writer, dimensions: int) -> bytes:
    """Wrap nodes and tensors into a checked model's bytes."""
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info(
        "sentence_embedding", TensorProto.FLOAT, ["texts", dimensions]
    )
    graph = helper.make_graph(writer.nodes, "sentence_encoder", inputs, [output], writer.tensors)
    model = helper.make_model(
        graph,
        ir_version=IR_VERSION,
        producer_name="pgembed",
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)],
    )
    data: bytes = model.SerializeToString(deterministic=True)
    return data

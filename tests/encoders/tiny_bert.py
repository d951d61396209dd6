"""A tiny BERT with random weights, in the graph that pgembed builds itself."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from pgembed.encoders.bert import Shape, sentence_encoder
from pgembed.lora_expert import LoraExpert
from tests.encoders.tiny import tokenizer, vocabulary

WIDTH, INNER, HEADS, LAYERS = 32, 64, 2, 4
POSITIONS = 64

Tensors = dict[str, NDArray[np.float32]]


def make_tiny_bert(directory: Path, *, layers: int = LAYERS, seed: int = 0) -> Path:
    """Write a model directory that ``open_encoder`` reads; the same arguments, the same bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    graph = sentence_encoder(bert_weights(layers, seed), Shape(layers, HEADS, 1e-12))
    (directory / "model.onnx").write_bytes(graph)
    tokenizer(list(vocabulary())).save(str(directory / "tokenizer.json"))
    content = {"max_seq_length": 32}
    (directory / "sentence_bert_config.json").write_text(json.dumps(content))
    return directory


def bert_weights(layers: int = LAYERS, seed: int = 0) -> Tensors:
    """Random weights by the names of transformers: words still tell in the last layer."""
    generator = np.random.default_rng(seed)

    def drawn(*shape: int) -> NDArray[np.float32]:
        return generator.normal(scale=0.3, size=shape).astype(np.float32)

    weights = {
        "embeddings.word_embeddings.weight": drawn(len(vocabulary()), WIDTH),
        "embeddings.position_embeddings.weight": drawn(POSITIONS, WIDTH) / 10,
        "embeddings.token_type_embeddings.weight": drawn(2, WIDTH) / 10,
    }
    norms = ["embeddings.LayerNorm"]
    for number in range(layers):
        layer = f"encoder.layer.{number}"
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            weights[f"{layer}.attention.{part}.weight"] = drawn(WIDTH, WIDTH) / 2
            weights[f"{layer}.attention.{part}.bias"] = drawn(WIDTH)
        for part, outputs, inputs in (
            ("intermediate.dense", INNER, WIDTH),
            ("output.dense", WIDTH, INNER),
        ):
            weights[f"{layer}.{part}.weight"] = drawn(outputs, inputs) / 2
            weights[f"{layer}.{part}.bias"] = drawn(outputs)
    for norm in norms:
        weights[f"{norm}.weight"] = 1 + drawn(WIDTH) / 3
        weights[f"{norm}.bias"] = drawn(WIDTH) / 3
    return weights


def random_expert(
    layers: Iterable[int],
    *,
    rank: int = 2,
    parts: Iterable[str] = ("attention.self.query", "attention.self.value"),
    seed: int = 0,
    size: float = 0.3,
) -> LoraExpert:
    """An expert with random weights; ``size`` 0 gives one that changes nothing."""
    generator = np.random.default_rng(seed)
    A, B = {}, {}
    for slot in [f"encoder.layer.{layer}.{part}" for layer in layers for part in parts]:
        inputs = INNER if slot.endswith(".output.dense") and "attention" not in slot else WIDTH
        outputs = INNER if "intermediate" in slot else WIDTH
        A[slot] = size * generator.standard_normal((inputs, rank)).astype(np.float32)
        B[slot] = size * generator.standard_normal((rank, outputs)).astype(np.float32)
    return LoraExpert(A, B, alpha=2.0 * rank)


def merge_into(source: Path, target: Path, expert: LoraExpert) -> Path:
    """Copy a tiny BERT with an expert's residuals added to its matrices, in float32."""
    target.mkdir()
    for path in source.glob("*.json"):
        (target / path.name).write_bytes(path.read_bytes())
    model = onnx.load(source / "model.onnx")
    for tensor in model.graph.initializer:
        slot = tensor.name.removesuffix(".weight.float16")
        if slot in expert.slots:
            matrix = onnx.numpy_helper.to_array(tensor).astype(np.float32) + expert.delta(slot)
            tensor.CopyFrom(onnx.numpy_helper.from_array(matrix, tensor.name))
    onnx.save(model, target / "model.onnx")
    return target

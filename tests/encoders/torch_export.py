"""The tiny BERT as torch exports it: names of modules as in transformers, token states out."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.encoders.tiny_bert import HEADS, INNER, LAYERS, WIDTH, bert_weights, make_tiny_bert


class SelfAttention(nn.Module):
    """Written out, as an export shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor) -> Any:
        """States to attended states."""
        query, key, value = (
            part(x).view(x.shape[0], x.shape[1], HEADS, -1).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(2, 3) / (WIDTH // HEADS) ** 0.5 + mask
        joined = (scores.softmax(-1) @ value).transpose(1, 2)
        return joined.reshape(x.shape[0], x.shape[1], WIDTH)


class Output(nn.Module):
    """A projection with residual and normalisation."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, WIDTH)
        self.LayerNorm = nn.LayerNorm(WIDTH, 1e-12)

    def forward(self, x: Tensor, residual: Tensor) -> Any:
        """States to states."""
        return self.LayerNorm(self.dense(x) + residual)


class Layer(nn.Module):
    """One layer."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"self": SelfAttention(), "output": Output(WIDTH)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(WIDTH, INNER)})
        self.output = Output(INNER)

    def forward(self, x: Tensor, mask: Tensor) -> Any:
        """States to states."""
        x = self.attention["output"](self.attention["self"](x, mask), x)
        return self.output(nn.functional.gelu(self.intermediate["dense"](x)), x)


class Bert(nn.Module):
    """Token ids to token states."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(words, WIDTH),
                "position_embeddings": nn.Embedding(64, WIDTH),
                "token_type_embeddings": nn.Embedding(2, WIDTH),
                "LayerNorm": nn.LayerNorm(WIDTH, 1e-12),
            }
        )
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer() for _ in range(LAYERS))})

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Any:
        """The last layer's states."""
        parts = self.embeddings
        x = parts["LayerNorm"](
            parts["word_embeddings"](input_ids)
            + parts["position_embeddings"](torch.arange(input_ids.shape[1])[None])
            + parts["token_type_embeddings"](token_type_ids)
        )
        mask = (1.0 - attention_mask[:, None, None, :].float()) * -1e9
        for layer in self.encoder["layer"]:
            x = layer(x, mask)
        return x


def torch_export(folder: Path, opset: int) -> Path:
    """Write a model directory with an export, and the files that say how it is used."""
    weights = bert_weights()
    model = Bert(len(weights["embeddings.word_embeddings.weight"])).eval()
    model.load_state_dict({name: torch.from_numpy(values) for name, values in weights.items()})
    make_tiny_bert(folder)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            tuple(torch.ones(2, 5, dtype=torch.int64) for _ in names),
            str(folder / "model.onnx"),
            input_names=names,
            output_names=["last_hidden_state"],
            dynamic_axes={name: {0: "n", 1: "t"} for name in [*names, "last_hidden_state"]},
            opset_version=opset,
            dynamo=False,
        )
    config = {"num_attention_heads": HEADS, "layer_norm_eps": 1e-12}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "mean"}))
    return folder

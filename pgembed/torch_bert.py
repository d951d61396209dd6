"""The layers of a BERT in torch, for training adapters on them; their own weights are frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pgembed.errors import InputError
from pgembed.lora_expert import slot_name

Project = Callable[[str, Tensor], Tensor]
"""A projection by its slot, applied to states (texts, tokens, in)."""


@dataclass(frozen=True, slots=True, eq=False)
class Adapters:
    """Trainable residuals of some projections."""

    A: Mapping[str, Tensor]
    """By slot: (in, rank)."""
    B: Mapping[str, Tensor]
    """By slot: (rank, out)."""
    scale: float
    dropout: float = 0.0
    """Share of the input's numbers that are left out, the others growing to make up for it."""
    generator: Any = None
    """Of the dropout; without one nothing is left out."""

    def residual(self, slot: str, states: Tensor) -> Tensor | None:
        """What is added to a projection; None where nothing is."""
        if slot not in self.A:
            return None
        if self.generator is not None and self.dropout:
            kept = torch.rand(states.shape, generator=self.generator) >= self.dropout
            states = states * kept / (1 - self.dropout)
        added: Tensor = states @ self.A[slot] @ self.B[slot] * self.scale
        return added


@dataclass(frozen=True, slots=True, eq=False)
class TorchLayers:
    """Transformer layers as BERT has them (Devlin et al. 2019): attention, then feed-forward.

    Post-normalised, with the exact GELU.
    """

    weights: Mapping[str, Tensor]
    """By the names of transformers, such as ``encoder.layer.3.output.dense.bias``; matrices
    (in, out)."""
    layers: range
    heads: int
    epsilon: float
    """Added to the variance in each layer normalisation."""

    @classmethod
    def of(
        cls, weights: Mapping[str, NDArray[np.float32]], layers: range, heads: int, epsilon: float
    ) -> TorchLayers:
        """Take weights over from numpy."""
        return cls({n: torch.from_numpy(w) for n, w in weights.items()}, layers, heads, epsilon)

    def states(self, hidden: Tensor, mask: Tensor, adapters: Adapters) -> Tensor:
        """States before the first layer to states after the last.

        Args:
            hidden: float32, (texts, tokens, width).
            mask: bool, (texts, tokens), True for real tokens.
            adapters: Added to the projections.
        """

        def project(slot: str, states: Tensor) -> Tensor:
            plain: Tensor = states @ self.weights[f"{slot}.weight"] + self.weights[f"{slot}.bias"]
            added = adapters.residual(slot, states)
            return plain if added is None else plain + added

        for layer in self.layers:
            hidden = self._layer(layer, hidden, mask, project)
        return hidden

    def _layer(self, layer: int, hidden: Tensor, mask: Tensor, project: Project) -> Tensor:
        query, key, value = (
            self._by_head(project(slot_name(layer, f"attention.self.{part}"), hidden))
            for part in ("query", "key", "value")
        )
        attended = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask[:, None, None, :]
        )
        joined = attended.transpose(1, 2).flatten(2)
        attention = slot_name(layer, "attention.output")
        hidden = self._normal(attention, project(f"{attention}.dense", joined) + hidden)
        inner = functional.gelu(project(slot_name(layer, "intermediate.dense"), hidden))
        output = slot_name(layer, "output")
        return self._normal(output, project(f"{output}.dense", inner) + hidden)

    def _by_head(self, states: Tensor) -> Tensor:
        split: Tensor = states.unflatten(2, (self.heads, -1)).transpose(1, 2)
        return split

    def _normal(self, name: str, states: Tensor) -> Tensor:
        scale, shift = (self.weights[f"{name}.LayerNorm.{part}"] for part in ("weight", "bias"))
        normal: Tensor = functional.layer_norm(
            states, (states.shape[-1],), scale, shift, self.epsilon
        )
        return normal


def mean(states: Tensor, mask: Tensor) -> Tensor:
    """Average the states of the real tokens: (n, tokens, d) -> (n, d)."""
    weights = mask[:, :, None].to(states.dtype)
    pooled: Tensor = (states * weights).sum(1) / weights.sum(1)
    return pooled


def first(states: Tensor, mask: Tensor) -> Tensor:
    """Take the state of the first token; padding is on the right."""
    return states[:, 0]


def last(states: Tensor, mask: Tensor) -> Tensor:
    """Take the state of the last real token; padding is on the right."""
    return states[torch.arange(len(states)), mask.sum(1) - 1]


POOLINGS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": mean,
    "cls": first,
    "last": last,
}
"""By the names of ``pgembed.pooling.POOLINGS``; ``graph`` is one of these inside the graph."""


@dataclass(frozen=True, slots=True, eq=False)
class TorchEncoder:
    """States before some layer to unit vectors."""

    layers: TorchLayers
    pooling: str
    dimensions: int

    def vectors(self, hidden: Tensor, mask: Tensor, adapters: Adapters) -> Tensor:
        """Encode a batch: (texts, tokens, width) -> (texts, dimensions), unit length."""
        states = self.layers.states(hidden, mask, adapters)
        pooled = POOLINGS[self.pooling](states, mask)
        scaled: Tensor = functional.normalize(pooled[:, : self.dimensions], dim=1)
        return scaled


def info_nce(
    vectors: Tensor,
    candidates: Tensor,
    targets: Tensor,
    masked: Tensor,
    *,
    temperature: float,
    labels: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of each query's target among the candidates, as ``descent.info_nce`` has it.

    Args:
        vectors: (b, dimensions), unit length.
        candidates: (c, dimensions), unit length.
        targets: (b,).
        masked: (b, c), True where a candidate takes no part.
        temperature: Similarities are divided by it.
        labels: (b, c), the share that each candidate should have; None is all for the target.
    """
    if vectors.shape[1] != candidates.shape[1]:
        raise InputError(
            f"queries have {vectors.shape[1]} dimensions, chunks {candidates.shape[1]}"
        )
    logits = (vectors @ candidates.T / temperature).masked_fill(masked, -torch.inf)
    if labels is None:
        loss: Tensor = functional.cross_entropy(logits, targets)
    else:
        shares = functional.log_softmax(logits, dim=1).masked_fill(masked, 0.0)
        loss = -(labels * shares).sum(1).mean()
    return loss

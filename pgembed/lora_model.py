"""The trainable part of a prepared model: vectors and gradients of adapters, with torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgembed.contrastive import Batch
from pgembed.encoders.bank import AdapterBank, States
from pgembed.encoders.layer_weights import upper_weights
from pgembed.errors import EncoderError
from pgembed.lora_run import Weights
from pgembed.model import Vectors
from pgembed.torch_bert import POOLINGS, Adapters, TorchEncoder, TorchLayers, info_nce

BUCKET = 32
"""Texts of similar length that are encoded at once."""

TOLERANCE = 1e-5
"""Greatest difference of a vector's number to ONNX Runtime's."""


@dataclass(frozen=True, slots=True, eq=False)
class LoraModel:
    """The upper layers of a bank in torch, with adapters of one expert."""

    encoder: TorchEncoder
    scale: float
    dropout: float
    generator: Any
    """Of the dropout."""

    @classmethod
    def of(
        cls, bank: AdapterBank, states: States, *, scale: float, dropout: float, seed: int
    ) -> LoraModel:
        """Read the weights of a bank's upper half, and check the vectors that they give.

        Args:
            bank: Of the prepared model.
            states: Of some texts, to compare with.
            scale: What (x A) B is multiplied by.
            dropout: Share of a slot's input that is left out while training.
            seed: Of the dropout.

        Raises:
            EncoderError: The model is none of a BERT.
        """
        manifest, graph = bank.manifest, bank.encoder.graph
        if manifest.heads is None:
            raise EncoderError(
                f"nothing says how many attention heads {bank.encoder.spec.name!r} has",
                hint="put the model's config.json beside its graph, and prepare it again",
            )
        layers = TorchLayers.of(
            upper_weights(bank.folder, manifest),
            range(manifest.split, manifest.layers),
            manifest.heads,
            manifest.epsilon,
        )
        poolings = list(POOLINGS) if graph.pooling == "graph" else [graph.pooling]
        generator = torch.Generator().manual_seed(seed)
        differences = {}
        for pooling in poolings:
            encoder = TorchEncoder(layers, pooling, bank.encoder.spec.dimensions)
            model = cls(encoder, scale, dropout, generator)
            found = np.abs(model.encode(states.hidden, {}) - states.base).max(initial=0.0)
            if found <= TOLERANCE:
                return model
            differences[pooling] = float(found)
        raise EncoderError(
            f"the layers of {bank.encoder.spec.name!r} are not those of a BERT: with them, vectors"
            f" differ by {min(differences.values()):.1e}",
            hint="LoRA experts can be trained on BERT and models of the same layers",
        )

    def encode(self, hidden: Sequence[NDArray[Any]], weights: Weights) -> Vectors:
        """Vectors of texts from their states: float32, (texts, dimensions), unit length."""
        vectors = np.empty((len(hidden), self.encoder.dimensions), dtype=np.float32)
        adapters = self._adapters({name: torch.from_numpy(w) for name, w in weights.items()})
        with torch.inference_mode():
            for places, states, mask in _buckets(hidden):
                vectors[places] = self.encoder.vectors(states, mask, adapters).numpy()
        return vectors

    def gradients(
        self,
        hidden: Sequence[NDArray[Any]],
        batch: Batch,
        weights: Weights,
        *,
        temperature: float,
        labels: NDArray[np.floating] | None,
        anchors: States | None = None,
        anchor: float = 0.0,
    ) -> tuple[float, dict[str, NDArray[np.float32]]]:
        """The loss of a batch and its gradient by each matrix, with dropout.

        With anchors the loss grows by ``anchor`` times the mean squared distance that they move.

        Args:
            hidden: States of the batch's queries.
            batch: Its candidates and targets.
            weights: Of the adapters.
            temperature: Similarities are divided by it.
            labels: Soft labels; None where the target alone counts.
            anchors: Texts that should stay where they are.
            anchor: Their weight.
        """
        leaves = {name: torch.tensor(w, requires_grad=True) for name, w in weights.items()}
        adapters = replace(self._adapters(leaves), generator=self.generator)
        loss = info_nce(
            self._vectors(hidden, adapters),
            torch.from_numpy(batch.candidates),
            torch.from_numpy(batch.targets),
            torch.from_numpy(batch.masked),
            temperature=temperature,
            labels=None if labels is None else torch.from_numpy(labels.astype(np.float32)),
        )
        if anchors is not None:
            moved = self._vectors(anchors.hidden, adapters) - torch.from_numpy(anchors.base)
            loss = loss + anchor * moved.square().sum(1).mean()
        loss.backward()
        return float(loss.detach()), {name: leaf.grad.numpy() for name, leaf in leaves.items()}

    def dropout_state(self) -> NDArray[np.uint8]:
        """Where the generator of the dropout stands."""
        state: NDArray[np.uint8] = self.generator.get_state().numpy()
        return state

    def resume_dropout(self, state: NDArray[np.uint8]) -> None:
        """Go on from where the generator stood."""
        self.generator.set_state(torch.from_numpy(state.copy()))

    def _vectors(self, hidden: Sequence[NDArray[Any]], adapters: Adapters) -> Any:
        """Vectors of texts from their states, for gradients: (texts, dimensions)."""
        parts, order = [], []
        for places, states, mask in _buckets(hidden):
            parts.append(self.encoder.vectors(states, mask, adapters))
            order.append(places)
        return torch.cat(parts)[torch.from_numpy(np.argsort(np.concatenate(order)))]

    def _adapters(self, matrices: Mapping[str, Any]) -> Adapters:
        A, B = (
            {name[:-2]: m for name, m in matrices.items() if name.endswith(f".{letter}")}
            for letter in "AB"
        )
        return Adapters(A, B, self.scale, self.dropout)


def _buckets(hidden: Sequence[NDArray[Any]]) -> Iterator[tuple[NDArray[np.intp], Any, Any]]:
    """Texts of similar length: their positions, states filled up on the right, and mask."""
    lengths = np.array([len(each) for each in hidden], dtype=np.intp)
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), BUCKET):
        places = order[start : start + BUCKET]
        mask = np.arange(lengths[places].max()) < lengths[places, None]
        states = np.zeros((*mask.shape, hidden[0].shape[1]), dtype=np.float32)
        states[mask] = np.concatenate([hidden[place] for place in places])
        yield places, torch.from_numpy(states), torch.from_numpy(mask)

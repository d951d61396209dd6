"""Settings of a LoRA training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from pgembed.candidates import CandidateSettings
from pgembed.errors import InputError
from pgembed.lora_expert import TARGETS

Layers = Literal["upper", "all"]
"""Where adapters sit: in the upper half, which costs less when serving, or in every layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSettings(CandidateSettings):
    """How a LoRA expert is trained; rank, alpha and dropout are RouterRetriever's."""

    rank: int = 8
    alpha: float = 32.0
    dropout: float = 0.1
    """Share of a projection's input that its adapter does not see in a step."""
    targets: tuple[str, ...] = ("query", "value")
    """Projections with an adapter: query, key, value, attention_output, intermediate, output."""
    layers: Layers = "upper"
    learning_rate: float = 3e-3
    """Peak of the one-cycle schedule."""
    weight_decay: float = 0.01
    anchor: float = 4.0
    """Weight of how far the expert moves the problem's anchors, texts that it should leave where
    they are: it then does less to queries that are unlike those that it learned from."""
    steps: int = 600
    """For one problem; p problems take sqrt(p) times as many."""

    def __post_init__(self) -> None:
        CandidateSettings.__post_init__(self)
        if min(self.rank, self.steps) < 1:
            raise InputError(f"a count in {self} is too small")
        if min(self.learning_rate, self.alpha) <= 0:
            raise InputError(f"learning rate and alpha are above 0, not as in {self}")
        if not 0 <= self.anchor < math.inf:
            raise InputError(f"the weight of the anchor is 0 or more, not {self.anchor}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout is a share below 1, not {self.dropout}")
        for value, known in (
            (self.layers, get_args(Layers)),
            *((target, tuple(TARGETS)) for target in self.targets),
        ):
            if value not in known:
                raise InputError(f"{value!r} is none of {', '.join(known)}")

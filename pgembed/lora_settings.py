"""Settings of a LoRA training, and the batches that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pgembed.contrastive import Batch, Batches, Mask, Negatives, TrainingProblem
from pgembed.distillation import soft_labels
from pgembed.errors import InputError
from pgembed.lora_expert import TARGETS

Layers = Literal["upper", "all"]
"""Where adapters sit: in the upper half, which costs less when serving, or in every layer."""


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """How a LoRA expert is trained; rank, alpha and dropout are RouterRetriever's."""

    rank: int = 8
    alpha: float = 32.0
    dropout: float = 0.1
    """Share of a projection's input that its adapter does not see in a step."""
    targets: tuple[str, ...] = ("query", "value")
    """Projections with an adapter: query, key, value, attention_output, intermediate, output."""
    layers: Layers = "upper"
    temperature: float = 0.05
    learning_rate: float = 3e-4
    """Peak of the one-cycle schedule."""
    weight_decay: float = 0.01
    batch: int = 64
    """Queries a step."""
    steps: int = 600
    """For one problem; p problems take sqrt(p) times as many."""
    negatives: Negatives = "sampled"
    """``corpus`` trains against every chunk: documents are frozen, so the softmax can be exact."""
    mined: int = 8
    """Mined negatives a query; of no account where every chunk is a candidate."""
    random: int = 512
    """Random negatives a batch; of no account where every chunk is a candidate."""
    margin: float | None = 1.0
    """Candidates above this share of the positive's base similarity are masked as false
    negatives; None masks none."""
    mask: Mask = "mined"
    """Which candidates the margin may mask: mined ones, or all."""
    distillation: float = 0.0
    """Weight of the teacher, where a problem has one, against the judged target."""
    teacher_temperature: float = 0.05
    """The teacher's scores are divided by it."""
    evaluate_every: int = 50
    """Steps between two looks at dev; scaled with the problems as the steps are."""
    patience: int = 8
    """Looks at dev without a gain after which training stops."""
    minimum_gain: float = 0.001
    """Dev nDCG@10 by which a later expert must beat the best so far."""
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.rank, self.batch, self.steps, self.evaluate_every, self.patience)
        if min(counts) < 1 or min(self.mined, self.random) < 0:
            raise InputError(f"a count in {self} is too small")
        positive = (self.temperature, self.teacher_temperature, self.learning_rate, self.alpha)
        if min(positive) <= 0:
            raise InputError(f"temperatures, learning rate and alpha are above 0, not as in {self}")
        if not (0 <= self.distillation <= 1 and 0 <= self.dropout < 1):
            raise InputError(f"distillation and dropout are shares, not as in {self}")
        for value, known in (
            (self.negatives, get_args(Negatives)),
            (self.mask, get_args(Mask)),
            (self.layers, get_args(Layers)),
            *((target, tuple(TARGETS)) for target in self.targets),
        ):
            if value not in known:
                raise InputError(f"{value!r} is none of {', '.join(known)}")


def batches_of(problem: TrainingProblem, settings: LoraSettings) -> Batches:
    """The batches of a problem that the settings ask for."""
    return Batches(
        problem,
        settings.batch,
        settings.mined,
        settings.random,
        settings.margin,
        settings.negatives,
        settings.mask,
    )


def labels_of(batch: Batch, settings: LoraSettings) -> NDArray[np.floating] | None:
    """Soft labels of a batch; None where the target alone counts."""
    if batch.teacher is None or not settings.distillation:
        return None
    return soft_labels(
        batch.teacher,
        batch.targets,
        batch.masked,
        temperature=settings.teacher_temperature,
        weight=settings.distillation,
    )

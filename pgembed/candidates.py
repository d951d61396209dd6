"""Settings that every kind of expert has, and the batches and soft labels that they ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from pgembed.contrastive import Batch, Batches, Mask, Negatives, TrainingProblem
from pgembed.distillation import soft_labels
from pgembed.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateSettings:
    """What the settings of every kind of expert have in common.

    Raises:
        InputError: a value is out of range.
    """

    temperature: float = 0.05
    batch: int = 64
    """Queries a step."""
    negatives: Negatives = "sampled"
    """``corpus`` trains against every chunk: documents are frozen, so the softmax can be exact."""
    mined: int = 8
    """Mined negatives a query; of no account where every chunk is a candidate."""
    random: int = 512
    """Random negatives a batch; of no account where every chunk is a candidate."""
    margin: float | None = 1.0
    """Candidates above this share of the positive's base similarity are masked as false
    negatives: 1 is GISTEmbed's threshold (arXiv 2402.16829) with the base as guide, .95 is
    NV-Retriever's (arXiv 2407.15831); None masks none."""
    mask: Mask = "mined"
    """Which candidates the margin may mask: mined ones, or all. In ``corpus`` the mined ones are
    all those that were mined for the batch."""
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
        if min(self.batch, self.evaluate_every, self.patience) < 1:
            raise InputError(f"a count in {self} is too small")
        if min(self.mined, self.random) < 0:
            raise InputError(f"a count in {self} is too small")
        if min(self.temperature, self.teacher_temperature) <= 0:
            raise InputError(f"temperatures are above 0, not as in {self}")
        if not 0 <= self.distillation <= 1:
            raise InputError(f"distillation is a share from 0 to 1, not {self.distillation}")
        for value, known in ((self.negatives, Negatives), (self.mask, Mask)):
            if value not in get_args(known):
                raise InputError(f"{value!r} is none of {', '.join(get_args(known))}")


def batches_of(problem: TrainingProblem, settings: CandidateSettings) -> Batches:
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


def labels_of(batch: Batch, settings: CandidateSettings) -> NDArray[np.floating] | None:
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

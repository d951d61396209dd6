"""Batches and soft labels as settings ask for them, whatever the kind of expert."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pgembed.contrastive import Batch, Batches, Mask, Negatives, TrainingProblem
from pgembed.distillation import soft_labels


class CandidateSettings(Protocol):
    """What settings of every kind of expert say of candidates."""

    @property
    def batch(self) -> int:
        """Queries a step."""

    @property
    def negatives(self) -> Negatives:
        """Sampled candidates, or the corpus."""

    @property
    def mined(self) -> int:
        """Mined negatives a query."""

    @property
    def random(self) -> int:
        """Random negatives a batch."""

    @property
    def margin(self) -> float | None:
        """Share of the positive's similarity above which candidates are masked."""

    @property
    def mask(self) -> Mask:
        """Candidates that the margin looks at."""

    @property
    def distillation(self) -> float:
        """Weight of the teacher."""

    @property
    def teacher_temperature(self) -> float:
        """The teacher's scores are divided by it."""


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

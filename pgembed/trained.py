"""What a training gives, whatever the kind of its expert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Made = TypeVar("Made", covariant=True)
"""The kind of expert: ``LinearExpert``, ``LoraExpert``."""


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """Progress: what one step did."""

    step: int
    steps: int
    loss: float
    dev_ndcg: float | None
    """Macro dev nDCG@10 where this step looked at dev."""


@dataclass(frozen=True, slots=True, eq=False)
class Trained(Generic[Made]):
    """An expert and how it came about."""

    expert: Made
    curve: tuple[tuple[int, float], ...]
    """Step and macro dev nDCG@10; step 0 is the base."""
    best_step: int
    base_scores: NDArray[np.float64]
    """Dev nDCG@10 of the base for each dev query, problem after problem."""
    expert_scores: NDArray[np.float64]
    """The same queries under the expert."""
    strata: NDArray[np.intp]
    """Number of the problem of each dev query."""
    steps: int
    """Steps taken before training stopped."""
    seconds: float
    """Spent training, interruptions left out."""
    losses: tuple[tuple[int, float], ...] = ()
    """Step, and mean loss since the look at dev before it."""

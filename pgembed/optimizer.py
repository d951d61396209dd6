"""AdamW and the one-cycle schedule of its learning rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WARM_UP = 0.3
"""Share of the steps in which the learning rate rises."""
FIRST_SHARE = 1 / 25
"""Learning rate of the first step, as a share of the highest."""
LAST_SHARE = FIRST_SHARE / 1e4
"""Learning rate of the last step, as a share of the highest."""

DECAY_FIRST, DECAY_SECOND, TINY = 0.9, 0.999, 1e-8
"""Adam's constants (arXiv 1412.6980, algorithm 1)."""


def one_cycle(step: int, steps: int, highest: float) -> float:
    """Learning rate of a step counted from 0: up, then down, both along a cosine.

    The one-cycle policy (arXiv 1708.07120) with the constants that PyTorch's OneCycleLR has.
    """
    top = WARM_UP * steps - 1
    if step <= top:
        return _cosine(FIRST_SHARE * highest, highest, step / top)
    return _cosine(highest, LAST_SHARE * highest, (step - top) / (steps - 1 - top))


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """What AdamW remembers of one matrix: means of its gradients and of their squares."""

    first: NDArray[np.float32]
    second: NDArray[np.float32]
    count: int = 0

    @classmethod
    def zero(cls, matrix: NDArray[np.float32]) -> Moments:
        """Nothing remembered yet."""
        return cls(np.zeros_like(matrix), np.zeros_like(matrix))

    def updated(self, gradient: NDArray[np.float32]) -> Moments:
        """Take in one gradient."""
        return Moments(
            DECAY_FIRST * self.first + (1 - DECAY_FIRST) * gradient,
            DECAY_SECOND * self.second + (1 - DECAY_SECOND) * gradient * gradient,
            self.count + 1,
        )

    def stepped(
        self, matrix: NDArray[np.float32], *, rate: float, decay: float
    ) -> NDArray[np.float32]:
        """Move the matrix one step (arXiv 1711.05101, algorithm 2): decay apart from the slope."""
        first = self.first / (1 - DECAY_FIRST**self.count)
        spread = np.sqrt(self.second / (1 - DECAY_SECOND**self.count)) + TINY
        moved: NDArray[np.float32] = matrix * (1 - rate * decay) - rate * first / spread
        return moved


def _cosine(start: float, end: float, share: float) -> float:
    return float(end + (start - end) / 2 * (1 + np.cos(np.pi * share)))

"""Where a LoRA training stands, in memory and as a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgembed.checkpoints import generator_state, pack, unpack
from pgembed.optimizer import Moments

Numbers = NDArray[np.uint8]
"""State of a generator of torch."""

Weights = Mapping[str, NDArray[np.float32]]
"""A and B of each slot, under the slot's name with ``.A`` or ``.B`` behind it."""

Curve = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """Adapters at one step, with the dev scores of each problem."""

    step: int
    weights: Weights
    scores: list[NDArray[np.float64]]

    @property
    def macro(self) -> float:
        """Mean over the problems of the mean over their dev queries."""
        return float(np.mean([scores.mean() for scores in self.scores]))


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Where a training stands."""

    step: int
    weights: Weights
    moments: Mapping[str, Moments]
    best: Look
    curve: Curve
    losses: Curve
    seconds: float

    def after(self, look: Look, loss: float, least: float, seconds: float) -> Run:
        """The run after a look at dev; the best adapters are replaced by those that gain enough."""
        return replace(
            self,
            best=look if look.macro > self.best.macro + least else self.best,
            curve=(*self.curve, (look.step, look.macro)),
            losses=(*self.losses, (look.step, loss)),
            seconds=seconds,
        )

    def to_bytes(self, training: str, generator: np.random.Generator, dropout: Numbers) -> bytes:
        """A checkpoint: with the states of both generators, all that the next step needs."""
        arrays: dict[str, NDArray[Any]] = {"dropout": dropout}
        for name, matrix in self.weights.items():
            arrays[f"weight {name}"] = matrix
            arrays[f"best {name}"] = self.best.weights[name]
            arrays[f"first {name}"] = self.moments[name].first
            arrays[f"second {name}"] = self.moments[name].second
        state = {
            "step": self.step,
            "best_step": self.best.step,
            "curve": self.curve,
            "losses": self.losses,
            "seconds": self.seconds,
            "generator": generator_state(generator),
        }
        return pack(training, arrays, state)


def read_run(
    data: bytes,
    training: str,
    generator: np.random.Generator,
    scores: Callable[[Weights], list[NDArray[np.float64]]],
) -> tuple[Run, Numbers]:
    """Read a checkpoint; the generator goes on from where it was.

    Args:
        data: what ``Run.to_bytes`` wrote.
        training: what ``training_hash`` says.
        generator: of batches.
        scores: dev nDCG@10 under some weights.

    Returns:
        The run, and the state of the dropout's generator.

    Raises:
        InputError: the checkpoint is damaged, or of another training.
    """
    arrays, state = unpack(training, data)
    generator.bit_generator.state = state["generator"]
    names = [name.removeprefix("weight ") for name in arrays if name.startswith("weight ")]
    best = {name: arrays[f"best {name}"] for name in names}
    curve, losses = (
        tuple((int(step), float(value)) for step, value in state[name])
        for name in ("curve", "losses")
    )
    step = int(state["step"])
    run = Run(
        step,
        {name: arrays[f"weight {name}"] for name in names},
        {n: Moments(arrays[f"first {n}"], arrays[f"second {n}"], step) for n in names},
        Look(int(state["best_step"]), best, scores(best)),
        curve,
        losses,
        float(state["seconds"]),
    )
    return run, arrays["dropout"]

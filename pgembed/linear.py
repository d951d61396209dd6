"""Training of linear experts with numpy alone; it can be stopped and resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pgembed.checkpoints import generator_state, pack, training_hash, unpack
from pgembed.contrastive import TrainingProblem
from pgembed.descent import Descent, LinearSettings, Pair, descend, initial_weights
from pgembed.errors import InputError, TrainingError
from pgembed.gating import GATE_QUERIES, GateDecision, gate
from pgembed.linear_expert import LinearExpert, unit
from pgembed.metrics import ndcg_of
from pgembed.optimizer import Moments
from pgembed.trained import Trained, TrainingStep

__all__ = [
    "GATE_QUERIES",
    "GateDecision",
    "LinearExpert",
    "LinearSettings",
    "Trained",
    "TrainingProblem",
    "TrainingStep",
    "gate",
    "train_linear",
    "unit",
]

KIND = "linear"

Curve = tuple[tuple[int, float], ...]


def train_linear(
    problems: Sequence[TrainingProblem],
    settings: LinearSettings | None = None,
    *,
    on_step: Callable[[TrainingStep], None] | None = None,
    on_checkpoint: Callable[[bytes], None] | None = None,
    resume: bytes | None = None,
) -> Trained[LinearExpert]:
    """Train a linear expert on the judged queries of one domain, or of several.

    InfoNCE over candidates that the batch shares, AdamW with the one-cycle schedule; A is drawn
    from N(0, 1 / dimensions) and B starts at zero, so that step 0 is the base. Documents stay as
    they are. Several problems give the general expert: each step draws one of them, and dev
    counts each alike. The expert that is best on dev by exact ranking is kept, base included.

    Args:
        problems: training and dev queries over corpora in one vector space.
        settings: how to train; the defaults when None.
        on_step: called after every step.
        on_checkpoint: called with the state of the training after each look at dev.
        resume: such a state, of the same problems and settings, to go on from: the result is
            that of a training that was never stopped. From the last one no step is taken.

    Returns:
        The best expert with its dev scores; equal seeds give equal experts on one machine.

    Raises:
        TrainingError: there is no problem to train on, or the loss is not finite.
        InputError: problems differ in dimensions, or ``resume`` is damaged or of another training.
    """
    started, settings = time.perf_counter(), settings or LinearSettings()
    _check(problems)
    steps, every = _scaled(settings, len(problems))
    generator = np.random.default_rng(settings.seed)
    start = initial_weights(problems[0].queries.shape[1], settings.rank, generator)
    base = _look(problems, 0, start)
    keeps = on_checkpoint is not None or resume is not None
    training = training_hash(problems, settings, KIND) if keeps else ""
    run = _Run(Descent.start(start), base, ((0, base.macro),), (), 0.0)
    if resume is not None:
        run = _resumed(resume, training, problems, generator)
        started -= run.seconds
    patience = settings.patience * every
    left: Iterable[tuple[float, Descent]] = ()
    if not run.stalled(patience):
        left = descend(problems, settings, run.descent, steps, generator)
    since: list[float] = []
    for loss, state in left:
        since.append(loss)
        looked = state.step % every == 0 or state.step == steps
        if looked:
            seconds = time.perf_counter() - started
            look = _look(problems, state.step, state.weights)
            run = run.after(state, look, float(np.mean(since)), settings.minimum_gain, seconds)
            since = []
        if on_step is not None:
            on_step(TrainingStep(state.step, steps, loss, run.curve[-1][1] if looked else None))
        if looked and on_checkpoint is not None:
            on_checkpoint(run.to_bytes(training, generator))
        if run.stalled(patience):
            break
    return run.result(base, time.perf_counter() - started)


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """An expert at one step, with the dev scores of each problem."""

    step: int
    expert: LinearExpert
    scores: list[NDArray[np.float64]]

    @property
    def macro(self) -> float:
        return float(np.mean([scores.mean() for scores in self.scores]))


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """Where a training stands after a look at dev."""

    descent: Descent
    best: _Look
    curve: Curve
    losses: Curve
    seconds: float

    def after(self, state: Descent, look: _Look, loss: float, least: float, seconds: float) -> _Run:
        """The run after another look; the best expert is replaced by one that gains enough."""
        return replace(
            self,
            descent=state,
            best=look if look.macro > self.best.macro + least else self.best,
            curve=(*self.curve, (look.step, look.macro)),
            losses=(*self.losses, (look.step, loss)),
            seconds=seconds,
        )

    def stalled(self, patience: int) -> bool:
        """Whether the last look came so many steps after the best one, or more."""
        return self.descent.step - self.best.step >= patience

    def result(self, base: _Look, seconds: float) -> Trained[LinearExpert]:
        return Trained(
            expert=self.best.expert,
            curve=self.curve,
            best_step=self.best.step,
            base_scores=np.concatenate(base.scores),
            expert_scores=np.concatenate(self.best.scores),
            strata=np.repeat(np.arange(len(base.scores)), [len(each) for each in base.scores]),
            steps=self.descent.step,
            seconds=seconds,
            losses=self.losses,
        )

    def to_bytes(self, training: str, generator: np.random.Generator) -> bytes:
        first, second = self.descent.moments
        arrays = {
            "A": self.descent.weights[0],
            "B": self.descent.weights[1],
            "first_A": first.first,
            "second_A": first.second,
            "first_B": second.first,
            "second_B": second.second,
            "best_A": self.best.expert.A,
            "best_B": self.best.expert.B,
        }
        state = {
            "step": self.descent.step,
            "best_step": self.best.step,
            "curve": self.curve,
            "losses": self.losses,
            "seconds": self.seconds,
            "generator": generator_state(generator),
        }
        return pack(training, arrays, state)


def _resumed(
    data: bytes, training: str, problems: Sequence[TrainingProblem], generator: np.random.Generator
) -> _Run:
    """The run of a checkpoint; the generator goes on from where it was."""
    arrays, state = unpack(training, data)
    generator.bit_generator.state = state["generator"]
    step = state["step"]
    moments = (
        Moments(arrays["first_A"], arrays["second_A"], step),
        Moments(arrays["first_B"], arrays["second_B"], step),
    )
    return _Run(
        Descent(step, (arrays["A"], arrays["B"]), moments),
        _look(problems, state["best_step"], (arrays["best_A"], arrays["best_B"])),
        _pairs(state["curve"]),
        _pairs(state["losses"]),
        state["seconds"],
    )


def _pairs(rows: Sequence[Sequence[float]]) -> Curve:
    return tuple((int(step), value) for step, value in rows)


def _look(problems: Sequence[TrainingProblem], step: int, weights: Pair) -> _Look:
    expert = LinearExpert(*weights)
    scores = [ndcg_of(expert.apply(p.dev_queries), p.corpus, p.dev_relevant) for p in problems]
    return _Look(step, expert, scores)


def _scaled(settings: LinearSettings, problems: int) -> tuple[int, int]:
    scale = float(np.sqrt(problems))
    return round(settings.steps * scale), round(settings.evaluate_every * scale)


def _check(problems: Sequence[TrainingProblem]) -> None:
    if not problems:
        raise TrainingError("there is no problem to train on")
    sizes = {problem.queries.shape[1] for problem in problems}
    if len(sizes) != 1:
        raise InputError(f"problems of one vector space share dimensions, not {sorted(sizes)}")

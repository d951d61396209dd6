"""Training of LoRA experts on the query side; it can be stopped and resumed. Needs torch."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgembed.candidates import batches_of, labels_of
from pgembed.checkpoints import training_hash
from pgembed.contrastive import TrainingProblem
from pgembed.encoders.bank import AdapterBank, States
from pgembed.encoders.preparing import prepare
from pgembed.errors import InputError, TrainingError
from pgembed.lora_expert import TARGETS, LoraExpert, part_of
from pgembed.lora_run import Look, Run, Weights, read_run
from pgembed.lora_settings import LoraSettings
from pgembed.metrics import ndcg_of
from pgembed.optimizer import Moments, one_cycle
from pgembed.trained import Trained, TrainingStep

if TYPE_CHECKING:
    from pgembed.lora_model import LoraModel

__all__ = ["LoraSettings", "train_lora"]

KIND = "lora"

ANCHORS = 16
"""Texts a step that the expert should leave where they are."""

LARGE = 1 << 30
"""Bytes of some texts' states from which on they are kept as float16."""


def train_lora(
    problems: Sequence[TrainingProblem],
    bank: AdapterBank,
    settings: LoraSettings | None = None,
    *,
    on_step: Callable[[TrainingStep], None] | None = None,
    on_checkpoint: Callable[[bytes], None] | None = None,
    resume: bytes | None = None,
) -> Trained[LoraExpert]:
    """Train a LoRA expert on the judged queries of one domain, or of several.

    As ``train_linear`` does, with residuals inside the encoder in place of one behind it: A is
    drawn from U(-1 / sqrt(in), 1 / sqrt(in)), B starts at zero. The layers below the adapters run
    once for each query; their states are kept. The problem's anchors should stay where they are:
    without them an expert does harm to all queries that are unlike its own.

    Args:
        problems: with the texts of their queries and anchors, over corpora in the encoder's vector
            space.
        bank: of the encoder that is adapted; its experts do not matter.
        settings: how to train; the defaults when None.
        on_step: called after every step.
        on_checkpoint: called with the state of the training after each look at dev.
        resume: such a state, of the same problems and settings, to go on from: the result is
            that of a training that was never stopped. From the last one no step is taken.

    Returns:
        The best expert on dev, base included; equal seeds give equal experts on one machine.

    Raises:
        TrainingError: there is no problem to train on, torch is missing, or the loss is not finite.
        InputError: a problem has no texts, the model has no slots for the targets, or ``resume``
            is damaged or of another training.
        EncoderError: the encoder is none of a BERT.
    """
    settings = settings or LoraSettings()
    _check(problems)
    with _own_bank(bank, settings) as own:
        return _Training(problems, own, settings).run(on_step, on_checkpoint, resume)


class _Training:
    """A training with its model, and the states that its queries start from."""

    def __init__(
        self, problems: Sequence[TrainingProblem], bank: AdapterBank, settings: LoraSettings
    ) -> None:
        self._problems, self._settings = problems, settings
        self._started = time.perf_counter()
        scale = float(np.sqrt(len(problems)))
        self._steps = round(settings.steps * scale)
        self._every = round(settings.evaluate_every * scale)
        self._generator = np.random.default_rng(settings.seed)
        self._slots = _slots(bank, settings)
        self._model = _model(bank, problems, settings)
        self._hidden = [_states(bank, problem.texts) for problem in problems]
        self._dev = [_states(bank, problem.dev_texts) for problem in problems]
        self._anchors = _anchors(bank, problems, settings)
        self._sources = [batches_of(problem, settings) for problem in problems]

    def run(
        self,
        on_step: Callable[[TrainingStep], None] | None,
        on_checkpoint: Callable[[bytes], None] | None,
        resume: bytes | None,
    ) -> Trained[LoraExpert]:
        settings = self._settings
        keeps = on_checkpoint is not None or resume is not None
        training = training_hash(self._problems, settings, KIND) if keeps else ""
        run, base = self._begun()
        if resume is not None:
            run, dropout = read_run(resume, training, self._generator, self._scores)
            self._model.resume_dropout(dropout)
            self._started -= run.seconds
        since: list[float] = []
        while run.step < self._steps and run.step - run.best.step < settings.patience * self._every:
            loss, run = self._stepped(run)
            since.append(loss)
            looked = run.step % self._every == 0 or run.step == self._steps
            if looked:
                look = Look(run.step, run.weights, self._scores(run.weights))
                run = run.after(look, float(np.mean(since)), settings.minimum_gain, self._seconds())
                since = []
            if on_step is not None:
                ndcg = run.curve[-1][1] if looked else None
                on_step(TrainingStep(run.step, self._steps, loss, ndcg))
            if looked and on_checkpoint is not None:
                on_checkpoint(run.to_bytes(training, self._generator, self._model.dropout_state()))
        return self._result(run, base)

    def _begun(self) -> tuple[Run, Look]:
        """No step taken: the adapters add nothing."""
        weights: dict[str, NDArray[np.float32]] = {}
        for slot, (width_in, width_out) in self._slots.items():
            bound = 1 / np.sqrt(width_in)
            drawn = self._generator.uniform(-bound, bound, (width_in, self._settings.rank))
            weights[f"{slot}.A"] = drawn.astype(np.float32)
            weights[f"{slot}.B"] = np.zeros((self._settings.rank, width_out), dtype=np.float32)
        moments = {name: Moments.zero(matrix) for name, matrix in weights.items()}
        scores = [ndcg_of(p.dev_queries, p.corpus, p.dev_relevant) for p in self._problems]
        base = Look(0, weights, scores)
        return Run(0, weights, moments, base, ((0, base.macro),), (), 0.0), base

    def _stepped(self, run: Run) -> tuple[float, Run]:
        """One batch of one problem."""
        settings = self._settings
        number = int(self._generator.integers(len(self._problems)))
        batch = self._sources[number].draw(self._generator)
        hidden = [self._hidden[number][row] for row in batch.rows.tolist()]
        anchors = self._anchors[number]
        if anchors is not None:
            rows = self._generator.integers(len(anchors.ids), size=ANCHORS)
            anchors = anchors.take(rows.tolist())
        loss, slopes = self._model.gradients(
            hidden,
            batch,
            run.weights,
            temperature=settings.temperature,
            labels=labels_of(batch, settings),
            anchors=anchors,
            anchor=settings.anchor,
        )
        if not np.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {run.step + 1}", hint="lower learning_rate"
            )
        rate = one_cycle(run.step, self._steps, settings.learning_rate)
        moments = {name: run.moments[name].updated(slope) for name, slope in slopes.items()}
        weights = {
            name: moments[name].stepped(matrix, rate=rate, decay=settings.weight_decay)
            for name, matrix in run.weights.items()
        }
        return loss, replace(run, step=run.step + 1, weights=weights, moments=moments)

    def _scores(self, weights: Weights) -> list[NDArray[np.float64]]:
        """Dev nDCG@10 of each problem by exact ranking."""
        return [
            ndcg_of(self._model.encode(hidden, weights), problem.corpus, problem.dev_relevant)
            for problem, hidden in zip(self._problems, self._dev, strict=True)
        ]

    def _seconds(self) -> float:
        return time.perf_counter() - self._started

    def _result(self, run: Run, base: Look) -> Trained[LoraExpert]:
        best = run.best if run.best.step else base
        A, B = ({slot: best.weights[f"{slot}.{letter}"] for slot in self._slots} for letter in "AB")
        return Trained(
            expert=LoraExpert(A, B, self._settings.alpha),
            curve=run.curve,
            best_step=best.step,
            base_scores=np.concatenate(base.scores),
            expert_scores=np.concatenate(best.scores),
            strata=np.repeat(np.arange(len(base.scores)), [len(each) for each in base.scores]),
            steps=run.step,
            seconds=self._seconds(),
            losses=run.losses,
        )


@contextmanager
def _own_bank(bank: AdapterBank, settings: LoraSettings) -> Iterator[AdapterBank]:
    """The bank to train on: for all layers, one whose upper half begins at the first."""
    if settings.layers == "upper" or bank.manifest.split == 0:
        yield bank
        return
    with tempfile.TemporaryDirectory(prefix="pgembed-") as folder:
        place = Path(folder)
        prepare(bank.encoder, split=0, targets=settings.targets, folder=place)
        yield AdapterBank.open(bank.encoder, place)


def _model(
    bank: AdapterBank, problems: Sequence[TrainingProblem], settings: LoraSettings
) -> LoraModel:
    try:
        from pgembed.lora_model import LoraModel
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"training an expert of kind 'lora' needs {error.name}",
            hint="pip install 'pgembed-router[train,lora]', or train one of kind linear.",
        ) from error
    probes = bank.start([problem.texts[0] for problem in problems])
    return LoraModel.of(
        bank,
        probes,
        scale=settings.alpha / settings.rank,
        dropout=settings.dropout,
        seed=settings.seed,
    )


def _slots(bank: AdapterBank, settings: LoraSettings) -> dict[str, Sequence[int]]:
    """The slots that get an adapter, with their widths."""
    parts = {TARGETS[target] for target in settings.targets}
    slots = {s: w for s, w in bank.manifest.half(True).items() if part_of(s) in parts}
    missing = parts - {part_of(slot) for slot in slots}
    if missing or not parts:
        raise InputError(
            f"the prepared model of {bank.encoder.spec.name!r} has no slots for"
            f" {', '.join(sorted(missing)) or 'no target'}",
            hint="prepare it with these projections: pgembed encoder prepare SOURCE --target ...",
        )
    return slots


def _anchors(
    bank: AdapterBank, problems: Sequence[TrainingProblem], settings: LoraSettings
) -> list[States | None]:
    """The anchors of each problem; of those that problems share one copy."""
    found: dict[tuple[str, ...], States] = {}
    for texts in {tuple(problem.anchors) for problem in problems if settings.anchor} - {()}:
        states = bank.start(texts)
        found[texts] = replace(states, hidden=tuple(_kept(states.hidden)))
    return [found.get(tuple(problem.anchors)) for problem in problems]


def _states(bank: AdapterBank, texts: Sequence[str]) -> list[NDArray[Any]]:
    """States of texts before the adapters."""
    return _kept(bank.start(texts).hidden)


def _kept(hidden: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """The same, in half precision where they are many."""
    if sum(each.nbytes for each in hidden) < LARGE:
        return list(hidden)
    return [each.astype(np.float16) for each in hidden]


def _check(problems: Sequence[TrainingProblem]) -> None:
    if not problems:
        raise TrainingError("there is no problem to train on")
    for problem in problems:
        if not problem.texts:
            raise InputError(
                f"problem {problem.name!r} has no texts, which LoRA experts are trained on",
                hint="pass texts and dev_texts",
            )

"""A training that was stopped goes on as if it had not been."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pgembed.checkpoints import training_hash
from pgembed.distillation import ListedScores
from pgembed.errors import InputError
from pgembed.linear import LinearExpert, Trained, TrainingStep, train_linear
from tests.test_linear import QUICK, problem

SETTINGS = replace(QUICK, steps=40, evaluate_every=10, batch=16)


class KilledError(Exception):
    """Stands for the end of a process."""


def killed_at(step: int, problems: Any, settings: Any = SETTINGS) -> list[bytes]:
    """The checkpoints of a training that ends after a step."""
    kept: list[bytes] = []

    def on_step(done: TrainingStep) -> None:
        if done.step == step:
            raise KilledError

    with pytest.raises(KilledError):
        train_linear(problems, settings, on_step=on_step, on_checkpoint=kept.append)
    return kept


def assert_equal(one: Trained[LinearExpert], other: Trained[LinearExpert]) -> None:
    """Bit for bit, but for the time."""
    assert one.expert.sha256 == other.expert.sha256
    assert (one.curve, one.losses) == (other.curve, other.losses)
    assert (one.steps, one.best_step) == (other.steps, other.best_step)
    np.testing.assert_array_equal(one.base_scores, other.base_scores)
    np.testing.assert_array_equal(one.expert_scores, other.expert_scores)
    np.testing.assert_array_equal(one.strata, other.strata)


@pytest.mark.parametrize(
    ("step", "negatives"), [(10, "sampled"), (27, "sampled"), (39, "sampled"), (27, "corpus")]
)
def test_interrupted_and_resumed_equals_uninterrupted(step: int, negatives: Any) -> None:
    """Wherever it was stopped; at step 10 the stop comes before that step's checkpoint."""
    settings = replace(SETTINGS, negatives=negatives)
    whole = train_linear([problem(0)], settings)
    kept = killed_at(step, [problem(0)], settings)
    assert len(kept) == (step - 1) // 10
    resumed = train_linear([problem(0)], settings, resume=kept[-1] if kept else None)
    assert_equal(resumed, whole)


def test_several_problems_patience_and_several_stops() -> None:
    """What is remembered of the best step and of early stopping is part of the state."""
    problems = [problem(4, planted=False), problem(5, planted=False)]
    settings = replace(SETTINGS, steps=200, patience=4)
    whole = train_linear(problems, settings)
    assert whole.steps < round(200 * np.sqrt(2))
    first = killed_at(35, problems, settings)[-1]
    steps: list[int] = []
    kept: list[bytes] = []
    train_linear(
        problems,
        settings,
        on_step=lambda done: steps.append(done.step),
        on_checkpoint=kept.append,
        resume=first,
    )
    assert steps[0] == 29
    for checkpoint in kept:
        assert_equal(train_linear(problems, settings, resume=checkpoint), whole)


@pytest.mark.parametrize("patience", [4, 1])
def test_a_finished_training_has_nothing_left_to_do(patience: int) -> None:
    """Its last checkpoint gives the same expert without a step, stopped early or not."""
    problems = [problem(4, planted=patience > 1)]
    settings = replace(SETTINGS, patience=patience)
    kept: list[bytes] = []
    whole = train_linear(problems, settings, on_checkpoint=kept.append)
    assert (whole.steps < settings.steps) == (patience == 1)
    steps: list[TrainingStep] = []
    again = train_linear(problems, settings, on_step=steps.append, resume=kept[-1])
    assert not steps
    assert_equal(again, whole)


def test_looking_at_checkpoints_changes_nothing() -> None:
    """And the losses are means since the look before."""
    seen: list[TrainingStep] = []
    with_them = train_linear([problem(1)], SETTINGS, on_checkpoint=lambda _: None)
    without = train_linear([problem(1)], SETTINGS, on_step=seen.append)
    assert_equal(with_them, without)
    assert without.losses[1] == (20, pytest.approx(np.mean([s.loss for s in seen[10:20]])))


def test_a_checkpoint_of_another_training_is_refused() -> None:
    """Other settings, other data: each would give an expert that nobody asked for."""
    checkpoint = killed_at(15, [problem(0)])[-1]
    good = problem(0)
    others: list[Any] = [
        ([good], replace(SETTINGS, seed=1)),
        ([good], replace(SETTINGS, negatives="corpus")),
        ([problem(1)], SETTINGS),
        ([good, good], SETTINGS),
        ([replace(good, positives=[{0: 1}, *good.positives[1:]])], SETTINGS),
        ([replace(good, dev_relevant=[{0: 1}, *good.dev_relevant[1:]])], SETTINGS),
        ([replace(good, mined=[[0], *good.mined[1:]])], SETTINGS),
        ([replace(good, anchors=["a"])], SETTINGS),
        ([replace(good, teacher=ListedScores.of([{0: 1.0}] * len(good.queries)))], SETTINGS),
    ]
    for problems, settings in others:
        with pytest.raises(InputError, match=r"belongs to another training.*\n.*--fresh"):
            train_linear(problems, settings, resume=checkpoint)


@pytest.mark.parametrize(
    "spoil", [lambda data: b"", lambda data: data[:-40], lambda data: b"x" * 9]
)
def test_a_damaged_checkpoint_is_refused(spoil: Any) -> None:
    """With the way out."""
    checkpoint = killed_at(15, [problem(0)])[-1]
    with pytest.raises(InputError, match=r"damaged.*\n.*--fresh"):
        train_linear([problem(0)], SETTINGS, resume=spoil(checkpoint))


def test_the_hash_of_a_training_is_of_its_content() -> None:
    """Equal problems have it in common, however they were made; kinds differ."""
    assert training_hash([problem(0)], SETTINGS, "linear") == training_hash(
        [problem(0)], SETTINGS, "linear"
    )
    assert training_hash([problem(0)], SETTINGS, "linear") != training_hash(
        [problem(0)], SETTINGS, "lora"
    )

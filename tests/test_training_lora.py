"""LoRA experts from judgments to a row: trained, gated, resumed as linear ones are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgembed.collections import create_collection
from pgembed.database import Connection
from pgembed.encoders.preparing import prepare
from pgembed.errors import EncoderError
from pgembed.experts import load_expert
from pgembed.judgments import JudgedCollection, add_judgments, read_judged
from pgembed.lora_expert import LoraExpert
from pgembed.model import Judgment
from pgembed.registry import open_registered, register_encoder
from pgembed.syncing import sync
from pgembed.trained import TrainingStep
from pgembed.training import TrainedExpert, train_expert
from pgembed.training_data import anchor_texts
from pgembed.training_kinds import settings_of
from tests.encoders.tiny_bert import make_tiny_bert
from tests.test_training import CIPHER, WORDS

pytest.importorskip("torch")

DOCUMENTS = 60


@pytest.fixture
def judged(connection: Connection, tmp_path: Path) -> JudgedCollection:
    """Documents of words, and queries that ask for them in the cipher."""
    register_encoder(connection, str(make_tiny_bert(tmp_path / "bert")), name="bert")
    random = np.random.default_rng(0)
    bodies = [list(random.choice(WORDS, 5, replace=False)) for _ in range(DOCUMENTS)]
    connection.execute("create table notes (id int primary key, body text)")
    with connection.cursor() as cursor:
        rows = [(number, " ".join(body)) for number, body in enumerate(bodies)]
        cursor.executemany("insert into notes values (%s, %s)", rows)
    create_collection(connection, "notes", source="notes", content=["body"], encoder="bert")
    sync(connection, "notes")
    made = {}
    for number in random.integers(DOCUMENTS, size=240).tolist():
        query = " ".join(CIPHER[word] for word in random.permutation(bodies[number])[:4])
        made[query] = Judgment(query, str(number), domain="cipher")
    add_judgments(connection, "notes", made.values())
    return read_judged(connection, "notes")


def train(
    connection: Connection, judged: JudgedCollection, anchor: float | None = None, **given: Any
) -> TrainedExpert:
    """A short training; a long one would say nothing more of a random model."""
    settings = settings_of("lora", steps=12, rank=4, seed=1, learning_rate=1e-2, anchor=anchor)
    return train_expert(
        connection,
        "law",
        [judged],
        kind="lora",
        domain="cipher",
        settings=replace(settings, evaluate_every=4, batch=16),
        **given,
    )


def test_a_lora_expert_is_trained_measured_and_stored(
    connection: Connection, judged: JudgedCollection
) -> None:
    """With the record that linear experts have; the row loads as what was trained."""
    with pytest.raises(EncoderError, match="prepare"):
        train(connection, judged)
    prepare(open_registered(connection, "bert"))
    trained = train(connection, judged)
    assert trained.expert.kind == "lora"
    assert trained.training.losses[-1][1] < trained.training.losses[0][1]
    stored = load_expert(connection, "bert", "law")
    assert isinstance(stored, LoraExpert)
    assert stored.sha256 == trained.training.expert.sha256
    metrics = trained.expert.metrics
    figures = metrics["dev_ndcg_at_10"]["cipher"]
    assert figures["expert"] == pytest.approx(
        float(trained.training.expert_scores.mean()), abs=1e-6
    )
    assert metrics["gate"]["accepted"] == (trained.expert.state == "active")
    assert set(metrics["run"]["versions"]) == {"python", "pgembed-router", "numpy", "torch"}
    assert metrics["settings"]["rank"] == 4


def test_texts_of_the_collection_are_held_in_place(
    connection: Connection, judged: JudgedCollection
) -> None:
    """By default; without, another expert comes of it."""
    prepare(open_registered(connection, "bert"))
    # Blank in Python, though not for every locale of PostgreSQL.
    connection.execute("update pgembed_data.notes set content = repeat(chr(28), 99) where id = 7")
    anchors = anchor_texts(connection, "notes")
    bodies = [body for (body,) in connection.execute("select body from notes where id <> 7")]
    assert sorted(anchors) == sorted(body[:80] for body in bodies)
    held = train(connection, judged)
    assert held.expert.metrics["settings"]["anchor"] == 4
    free = train(connection, judged, anchor=0.0)
    assert free.training.losses[0] != held.training.losses[0]


def test_a_stopped_training_goes_on(
    connection: Connection, judged: JudgedCollection, tmp_path: Path
) -> None:
    """To the same expert, bit for bit."""
    prepare(open_registered(connection, "bert"))
    whole = train(connection, judged)

    def stop(step: TrainingStep) -> None:
        if step.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(connection, judged, on_step=stop, checkpoints=tmp_path / "trainings")
    assert len(list((tmp_path / "trainings").glob("lora-*.npz"))) == 1
    steps: list[int] = []
    resumed = train(
        connection,
        judged,
        on_step=lambda step: steps.append(step.step),
        checkpoints=tmp_path / "trainings",
    )
    assert steps[0] == 5
    assert resumed.training.expert.sha256 == whole.training.expert.sha256
    assert resumed.training.curve == whole.training.curve

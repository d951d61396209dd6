"""Train experts on judgments in the database, and pass them through the gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pgembed.checkpoints import CheckpointFile, training_hash
from pgembed.contrastive import TrainingProblem
from pgembed.database import Connection
from pgembed.experts import check_name, register_expert
from pgembed.gating import ALLOWED_LOSS, GateDecision, gate
from pgembed.judgments import JudgedCollection, one_encoder
from pgembed.model import EncoderSpec, Expert
from pgembed.registry import registered_encoder
from pgembed.trained import Trained
from pgembed.training_data import (
    anchor_texts,
    general_parts,
    learned_parts,
    mine_negatives,
    other_parts,
    parts_of,
    training_problem,
)
from pgembed.training_kinds import Kind, OnStep, Trainer, trainer_of
from pgembed.training_record import Measured, PartScores, run_record, scores_of

__all__ = ["TrainedExpert", "mine_negatives", "train_expert", "training_problem"]


@dataclass(frozen=True, slots=True)
class TrainedExpert:
    """An expert that was trained, and whether the gate let it in."""

    expert: Expert
    decision: GateDecision
    training: Trained[Any]


def train_expert(  # noqa: PLR0913 - one option a choice of how to train
    connection: Connection,
    name: str,
    judged: Sequence[JudgedCollection],
    *,
    kind: Kind = "linear",
    domain: str | None = None,
    settings: Any | None = None,
    general: Sequence[JudgedCollection] = (),
    allowed_loss: float = ALLOWED_LOSS,
    checkpoints: Path | None = None,
    fresh: bool = False,
    on_step: OnStep = None,
) -> TrainedExpert:
    """Train an expert on the judgments of a domain, or of all, and register it.

    Documents stay as they are: only the query side is trained, against the stored vectors. The
    expert is registered as ``active`` when dev nDCG@10 improves significantly (paired bootstrap)
    and general queries lose no more than ``allowed_loss``, and as ``rejected`` otherwise, so that
    its figures can be looked up. How it came about is stored with it.

    Args:
        connection: the caller's; nothing is committed here.
        name: of the expert; one of that name is replaced, unless it serves and this one is refused.
        judged: the collections to learn from, all of one encoder.
        kind: ``linear`` is a map of the base vector; ``lora`` adapts the encoder and needs torch.
        domain: of the judgments; None takes every domain that has enough, for a general expert.
        settings: how to train; the defaults of the kind when None.
        general: collections whose dev queries stand for what every expert must not harm, beside
            the dev queries without a domain of ``judged``.
        allowed_loss: macro nDCG@10 that these may lose.
        checkpoints: folder for the state of a training until its expert is registered: the same
            call again goes on from there, also where only the scoring or the registration failed.
            None keeps no state.
        fresh: begin anew where an unfinished training of the same data and settings was left.
        on_step: called after every step.

    Raises:
        TrainingError: there are no training or no dev queries, or the kind needs what is missing.
        InputError: the name is empty or that of a mode, or the settings are of another kind.
    """
    check_name(name)
    encoder = registered_encoder(connection, one_encoder([*judged, *general]))
    trainer = trainer_of(connection, kind, encoder, settings)
    parts = parts_of([*judged, *general])
    own = [part for part in parts if part.collection.name in {each.name for each in judged}]
    learned = learned_parts(own, domain)
    guarded = general_parts(parts, learned, [each.name for each in general])
    names = sorted({part.collection.name for part in learned}) if trainer.anchored else []
    anchors = {each: anchor_texts(connection, each) for each in names}
    problems = [
        training_problem(
            connection, part.collection, part.domain, anchors=anchors.get(part.collection.name, ())
        )
        for part in learned
    ]
    file = _checkpoint(trainer, problems, encoder, checkpoints)
    if file and fresh:
        file.remove()
    trained = trainer.train(
        problems,
        on_step=on_step,
        on_checkpoint=file.write if file else None,
        resume=file.read() if file else None,
    )
    measured = Measured(
        *(
            scores_of(trainer.apply, trained.expert, each)
            for each in (learned, other_parts(own, learned), guarded)
        )
    )
    trained = _on_dev(trained, measured.learned)
    decision = gate(trained, general=measured.general_change, allowed_loss=allowed_loss)
    state = "active" if decision.accepted else "rejected"
    metrics = run_record(encoder, trainer, trained, decision, problems, learned, measured)
    register_expert(
        connection,
        encoder,
        name,
        trained.expert,
        state=state,
        domain=domain,
        trained_on=", ".join(collection.name for collection in judged),
        metrics=metrics,
    )
    if file:
        file.remove()
    return TrainedExpert(
        Expert(name, encoder.name, kind, state, domain, metrics), decision, trained
    )


def _checkpoint(
    trainer: Trainer,
    problems: Sequence[TrainingProblem],
    encoder: EncoderSpec,
    checkpoints: Path | None,
) -> CheckpointFile | None:
    """The file of this training, if there is a folder for it."""
    if checkpoints is None:
        return None
    training = training_hash(problems, trainer.settings, f"{trainer.kind} {encoder.fingerprint}")
    return CheckpointFile(checkpoints / f"{trainer.kind}-{training[:32]}.npz")


def _on_dev(trained: Trained[Any], scores: Sequence[PartScores]) -> Trained[Any]:
    """The training with the scores of the dev queries, which chose nothing so far."""
    return replace(
        trained,
        base_scores=np.concatenate([each.base for each in scores]),
        expert_scores=np.concatenate([each.expert for each in scores]),
        strata=np.repeat(np.arange(len(scores)), [len(each.base) for each in scores]),
    )

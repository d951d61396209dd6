"""The kinds of experts that can be trained, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from pgembed.contrastive import TrainingProblem
from pgembed.database import Connection
from pgembed.descent import LinearSettings
from pgembed.errors import InputError, TrainingError
from pgembed.judgments import JudgedQueries
from pgembed.linear import train_linear
from pgembed.linear_expert import LinearExpert
from pgembed.model import EncoderSpec, Vectors
from pgembed.registry import open_registered
from pgembed.trained import Trained, TrainingStep

if TYPE_CHECKING:
    from pgembed.encoders.bank import AdapterBank

Kind = Literal["linear", "lora"]

OnStep = Callable[[TrainingStep], None] | None

CANDIDATE = "candidate"
"""Name under which an expert takes its place in a bank while it is measured."""


class Trainer(Protocol):
    """Trains experts of one kind for one encoder."""

    kind: Kind
    settings: Any

    @property
    def anchored(self) -> bool:
        """Whether it needs texts to hold in place."""
        ...

    def train(
        self,
        problems: Sequence[TrainingProblem],
        *,
        on_step: OnStep,
        on_checkpoint: Callable[[bytes], None] | None,
        resume: bytes | None,
    ) -> Trained[Any]:
        """Train, or go on with a training that was stopped."""
        ...

    def apply(self, expert: Any, queries: JudgedQueries) -> Vectors:
        """Query vectors under an expert: float32, shape (n, dimensions), unit length."""
        ...


@dataclass(slots=True)
class LinearTrainer:
    """Trains linear maps on cached vectors, with numpy alone."""

    settings: LinearSettings
    kind: Kind = "linear"

    @property
    def anchored(self) -> bool:
        """Vectors of chunks are held, which are there."""
        return False

    def train(
        self,
        problems: Sequence[TrainingProblem],
        *,
        on_step: OnStep,
        on_checkpoint: Callable[[bytes], None] | None,
        resume: bytes | None,
    ) -> Trained[LinearExpert]:
        """As ``train_linear`` does."""
        return train_linear(
            problems, self.settings, on_step=on_step, on_checkpoint=on_checkpoint, resume=resume
        )

    def apply(self, expert: LinearExpert, queries: JudgedQueries) -> Vectors:
        """A map of the base vectors."""
        return expert.apply(queries.vectors)


@dataclass(slots=True)
class LoraTrainer:
    """Trains low-rank residuals inside the query encoder, with torch."""

    settings: Any
    bank: AdapterBank
    kind: Kind = "lora"

    @property
    def anchored(self) -> bool:
        """Unless their weight is 0."""
        anchored: bool = self.settings.anchor > 0
        return anchored

    def train(
        self,
        problems: Sequence[TrainingProblem],
        *,
        on_step: OnStep,
        on_checkpoint: Callable[[bytes], None] | None,
        resume: bytes | None,
    ) -> Trained[Any]:
        """As ``train_lora`` does."""
        from pgembed.lora_training import train_lora

        return train_lora(
            problems,
            self.bank,
            self.settings,
            on_step=on_step,
            on_checkpoint=on_checkpoint,
            resume=resume,
        )

    def apply(self, expert: Any, queries: JudgedQueries) -> Vectors:
        """A pass of the encoder with the expert in it."""
        self.bank.add(CANDIDATE, expert)
        try:
            states = self.bank.start(queries.texts)
            return self.bank.finish(states, range(len(queries)), [CANDIDATE] * len(queries))
        finally:
            self.bank.remove(CANDIDATE)


def settings_of(kind: str, **given: Any) -> Any:
    """The settings of a kind of expert: its defaults, but for what is given and not None.

    Raises:
        InputError: there is no such kind, it has no such setting, or a value is out of range.
        TrainingError: the kind needs torch, which is missing.
    """
    made = _settings_class(kind)
    chosen = {name: value for name, value in given.items() if value is not None}
    known = {field.name for field in fields(made)}
    if unknown := sorted(set(chosen) - known):
        raise InputError(
            f"{unknown[0]!r} is no setting of experts of kind {kind!r}",
            hint=f"Its settings are {', '.join(sorted(known))}.",
        )
    return made(**chosen)


def trainer_of(
    connection: Connection, kind: str, encoder: EncoderSpec, settings: Any | None
) -> Trainer:
    """What trains experts of a kind for an encoder.

    Raises:
        InputError: there is no such kind, or the settings are those of another.
        TrainingError: the kind needs torch, which is missing.
        EncoderError: of LoRA, the encoder is not prepared and cannot be.
    """
    expected = _settings_class(kind)
    settings = expected() if settings is None else settings
    if not isinstance(settings, expected):
        raise InputError(
            f"an expert of kind {kind!r} is trained with {expected.__name__},"
            f" not with {type(settings).__name__}"
        )
    if kind == "linear":
        return LinearTrainer(settings)
    from pgembed.encoders.bank import AdapterBank

    return LoraTrainer(settings, AdapterBank.open(open_registered(connection, encoder.name)))


def _settings_class(kind: str) -> Any:
    if kind not in get_args(Kind):
        raise InputError(f"{kind!r} is no kind of expert that is trained: linear or lora")
    if kind == "linear":
        return LinearSettings
    try:
        import torch  # noqa: F401 - what is missing is said before anything is read or encoded
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"training an expert of kind 'lora' needs {error.name}",
            hint="pip install 'pgembed-router[train,lora]', or train one of kind linear.",
        ) from error
    from pgembed.lora_training import LoraSettings

    return LoraSettings

"""Checkpoints: a training's state as bytes, bound to its problems and settings."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pgembed.contrastive import TrainingProblem
from pgembed.errors import InputError
from pgembed.metrics import Corpus

VERSION = 1
"""Raise it when the meaning of a checkpoint changes: older ones are refused then."""

PROBED_QUERIES, PROBED_CHUNKS = 64, 1024
"""What of a teacher's scores is hashed: it is a function, and its whole matrix may be large."""

Arrays = dict[str, NDArray[Any]]


def training_hash(problems: Sequence[TrainingProblem], settings: object, kind: str) -> str:
    """sha256, hexadecimal, of all that decides how a training goes: data, settings and kind."""
    digest = hashlib.sha256(f"{kind} {VERSION} {len(problems)}".encode())
    digest.update(json.dumps(_plain(settings), sort_keys=True, default=repr).encode())
    corpora: dict[int, bytes] = {}
    for problem in problems:
        corpus = problem.corpus
        if id(corpus) not in corpora:
            corpora[id(corpus)] = corpus_hash(corpus).encode()
        digest.update(corpora[id(corpus)])
        for part in _parts(problem):
            digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def corpus_hash(corpus: Corpus) -> str:
    """sha256, hexadecimal, of the vectors and of the documents that they belong to."""
    digest = hashlib.sha256(str(corpus.vectors.shape).encode())
    digest.update(corpus.vectors.data)
    digest.update(corpus.documents.astype("<i8").tobytes())
    return digest.hexdigest()


def pack(training: str, arrays: Mapping[str, NDArray[Any]], state: Mapping[str, Any]) -> bytes:
    """Write a checkpoint.

    Args:
        training: what ``training_hash`` says.
        arrays: of numbers.
        state: what json can hold; integers of any size are kept.
    """
    record = json.dumps({"training": training, "state": state}).encode()
    buffer = BytesIO()
    np.savez(buffer, allow_pickle=False, record=np.frombuffer(record, np.uint8), **arrays)
    return buffer.getvalue()


def unpack(training: str, data: bytes) -> tuple[Arrays, dict[str, Any]]:
    """Read what ``pack`` wrote.

    Raises:
        InputError: the bytes are damaged, or belong to another training.
    """
    try:
        with np.load(BytesIO(data), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        record = json.loads(arrays.pop("record").tobytes())
        found, state = record["training"], record["state"]
    except (ValueError, KeyError, TypeError, OSError, EOFError, BadZipFile) as error:
        raise InputError(
            f"the checkpoint of {len(data)} bytes is damaged: {error}",
            hint="Train afresh: --fresh in the shell, resume=None in Python.",
        ) from error
    if found != training:
        raise InputError(
            f"the checkpoint belongs to another training ({found:.12}, not {training:.12}):"
            " its data or its settings differ",
            hint="Train afresh: --fresh in the shell, resume=None in Python.",
        )
    return arrays, state


def generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """The state of a generator, for json."""
    return dict(generator.bit_generator.state)


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    """The file that a training is resumed from; it is there until the expert is registered."""

    path: Path

    def read(self) -> bytes | None:
        """What was written last; None where nothing was."""
        return self.path.read_bytes() if self.path.exists() else None

    def write(self, data: bytes) -> None:
        """Replace the file at once: whoever reads finds the old bytes or the new ones.

        Raises:
            InputError: it cannot be written.
        """
        partial = self.path.with_suffix(f".{os.getpid()}.partial")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(data)
            partial.replace(self.path)
        except OSError as error:
            raise InputError(
                f"the checkpoint cannot be written to {self.path}: {error.strerror}",
                hint="Set PGEMBED_CACHE to a directory that can be written.",
            ) from error

    def remove(self) -> None:
        """Forget it; nothing happens where there is none."""
        self.path.unlink(missing_ok=True)


def _parts(problem: TrainingProblem) -> Iterator[bytes]:
    yield problem.name.encode()
    yield np.ascontiguousarray(problem.queries).tobytes()
    yield np.ascontiguousarray(problem.dev_queries).tobytes()
    for graded in (problem.positives, problem.dev_relevant):
        yield json.dumps(
            [sorted((int(d), int(g)) for d, g in row.items()) for row in graded]
        ).encode()
    yield json.dumps([[int(chunk) for chunk in row] for row in problem.mined]).encode()
    for texts in (problem.texts, problem.dev_texts, problem.anchors):
        yield json.dumps(list(texts)).encode()
    if problem.teacher is not None:
        queries = np.arange(min(PROBED_QUERIES, len(problem.queries)))
        chunks = np.arange(min(PROBED_CHUNKS, len(problem.corpus.vectors)))
        yield np.asarray(problem.teacher(queries, chunks), dtype=np.float64).tobytes()


def _plain(settings: object) -> object:
    if is_dataclass(settings) and not isinstance(settings, type):
        return asdict(settings)
    return settings

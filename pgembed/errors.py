"""One tree of errors: each message names the value and says what to do."""

from __future__ import annotations


class PgembedError(Exception):
    """Base of everything that pgembed raises on purpose.

    The tree, with the SQLSTATE that the database raises for the same cause::

        PgembedError
        ├── InputError           PGE03  a text, vector, key or argument that cannot be used
        │   └── FilterError      PGE02  a filter names an unknown column, operator or type
        ├── NotFoundError        PGE01  no such collection, encoder, expert or router
        ├── SourceError          PGE05  a source table lost a column, or has no key
        ├── WorkerError          PGE06  no worker answered in time, or none is running
        ├── SchemaError                 pgembed is not installed here, or at another version
        ├── EncoderError                a model file is missing, corrupt or unsupported
        │   └── FingerprintError PGE04  a model is not the one that made the vectors
        ├── TrainingError               too few judgments to train on
        ├── GateError                   a trained expert or router is not better: refused
        └── ServerError                 the embedded server cannot start or stop
    """

    hint: str | None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message}\nHint: {hint}")
        self.hint = hint


class InputError(PgembedError, ValueError):
    """A text, vector, key or argument cannot be used."""


class FilterError(InputError):
    """A filter names an unknown column or operator, or a value of the wrong type."""


class NotFoundError(PgembedError, LookupError):
    """No collection, encoder, expert or router has this name."""


class SourceError(PgembedError):
    """The source table of a collection cannot serve: no key, or a column is gone."""


class WorkerError(PgembedError):
    """No worker is running, cannot be reached, or did not answer in time."""


class SchemaError(PgembedError):
    """The database lacks pgembed's schema or an extension, or is at another version."""


class EncoderError(PgembedError):
    """A model directory is missing a file, or a file is corrupt or not supported."""


class FingerprintError(EncoderError):
    """The model on disk is not the model that made the stored vectors."""


class TrainingError(PgembedError):
    """There is too little, or nothing, to train on."""


class GateError(PgembedError):
    """What was trained is not significantly better on dev, so it is refused."""


class ServerError(PgembedError):
    """The embedded PostgreSQL server cannot be started, joined or stopped."""

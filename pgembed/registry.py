"""Encoders as the database knows them: register, list, open and check against the fingerprint."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from psycopg import sql
from psycopg.rows import class_row

from pgembed.database import Connection, translated
from pgembed.encoders import Encoder, open_encoder
from pgembed.errors import FingerprintError
from pgembed.model import EncoderSpec

_opened: dict[str, Encoder] = {}

COLUMNS = sql.SQL(", ").join(sql.Identifier(field.name) for field in fields(EncoderSpec))
"""Of an encoder; times are left out: psycopg does not read them under every datestyle."""


def register_encoder(
    connection: Connection, source: str = "minilm", *, name: str | None = None, **options: Any
) -> EncoderSpec:
    """Open a model and make it known to the database, with its identity expert ``base``.

    Args:
        connection: the caller's; nothing is committed here.
        source: ``minilm``, a directory with model.onnx and tokenizer.json, or ``hf:owner/name``.
        name: what to call it; the last part of ``source`` unless given.
        options: ``pooling``, ``query_prefix``, ``document_prefix``, ``max_tokens``,
            ``dimensions``, as in :func:`pgembed.encoders.open_encoder`.

    Raises:
        EncoderError: the model cannot be opened.
        FingerprintError: another model is registered under this name.
    """
    encoder = open_encoder(source, name=name, **options)
    spec = encoder.spec
    with translated():
        connection.execute(
            "select pgembed.register_encoder(%s, %s, %s, %s, %s, %s, %s, %s)",
            (
                spec.name,
                spec.fingerprint,
                spec.dimensions,
                spec.max_tokens,
                spec.pooling,
                spec.source,
                spec.query_prefix,
                spec.document_prefix,
            ),
        )
    _opened[spec.fingerprint] = encoder
    return spec


def registered_encoder(connection: Connection, name: str) -> EncoderSpec:
    """The encoder of that name as it was registered.

    Raises:
        NotFoundError: there is none; the hint lists those that exist.
    """
    with translated(), connection.cursor(row_factory=class_row(EncoderSpec)) as cursor:
        spec = cursor.execute(
            sql.SQL("select {} from pgembed.encoder_named(%s)").format(COLUMNS), (name,)
        ).fetchone()
    assert spec is not None
    return spec


def list_encoders(connection: Connection) -> list[EncoderSpec]:
    """Every registered encoder, by name."""
    with translated(), connection.cursor(row_factory=class_row(EncoderSpec)) as cursor:
        return cursor.execute(
            sql.SQL("select {} from pgembed.encoder order by name").format(COLUMNS)
        ).fetchall()


def open_registered(
    connection: Connection,
    name: str,
    fingerprint: str | None = None,
    *,
    threads: int | None = None,
) -> Encoder:
    """The model of a registered encoder, opened once a process.

    Args:
        connection: the caller's.
        name: of the encoder.
        fingerprint: of the encoder where the caller knows it: saves the look-up when it is open.
        threads: batches that run at the same time, where it is not open yet; by default one a
            processor.

    Raises:
        NotFoundError: no such encoder.
        EncoderError: its files are not where they were when it was registered.
        FingerprintError: the files are of another model than the one that made the vectors.
    """
    if fingerprint in _opened:
        return _opened[fingerprint]
    return open_model(registered_encoder(connection, name), threads=threads)


def open_model(spec: EncoderSpec, *, threads: int | None = None) -> Encoder:
    """The model of a registered encoder, opened once a process.

    Args:
        spec: as it was registered.
        threads: as for ``open_registered``.

    Raises:
        EncoderError, FingerprintError: as for ``open_registered``.
    """
    if spec.fingerprint not in _opened:
        encoder = open_encoder(
            spec.source,
            name=spec.name,
            pooling=spec.pooling,
            query_prefix=spec.query_prefix,
            document_prefix=spec.document_prefix,
            max_tokens=spec.max_tokens,
            dimensions=spec.dimensions,
            threads=threads,
        )
        if encoder.spec.fingerprint != spec.fingerprint:
            raise FingerprintError(
                f"the model at {spec.source!r} has fingerprint {encoder.spec.fingerprint[:12]};"
                f" encoder {spec.name!r} was registered with {spec.fingerprint[:12]}",
                hint="Its vectors would not match the stored ones: restore the model's files, or"
                " register the new model under another name and create a collection for it.",
            )
        _opened[spec.fingerprint] = encoder
    return _opened[spec.fingerprint]


def matching_encoder(
    connection: Connection, name: str, fingerprint: str, given: Encoder | None
) -> Encoder:
    """The given encoder where it is the registered model; without one, the registered model.

    Raises:
        FingerprintError: the given encoder is another model.
        NotFoundError, EncoderError: as for ``open_registered``.
    """
    if given is None:
        return open_registered(connection, name, fingerprint)
    if given.spec.fingerprint != fingerprint:
        raise FingerprintError(
            f"the given encoder {given.spec.name!r} has fingerprint {given.spec.fingerprint[:12]};"
            f" encoder {name!r} was registered with {fingerprint[:12]}",
            hint="Leave the encoder out, and the registered model is opened.",
        )
    return given

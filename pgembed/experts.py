"""Experts as the database keeps them: register, list, load and retire."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from pgembed.database import Connection, rows_of, translated
from pgembed.encoders.lora_files import lora_from_bytes, lora_to_bytes
from pgembed.errors import FingerprintError, InputError, NotFoundError
from pgembed.linear_expert import LinearExpert
from pgembed.lora_expert import LoraExpert
from pgembed.model import EncoderSpec, Expert
from pgembed.registry import registered_encoder

AnyExpert = LinearExpert | LoraExpert
"""An expert of any kind, ``base`` left out."""


def register_expert(
    connection: Connection,
    encoder: EncoderSpec,
    name: str,
    expert: AnyExpert,
    *,
    state: str = "active",
    domain: str | None = None,
    trained_on: str | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> None:
    """Deploy an expert as a row, or replace the one of that name; nothing is committed here.

    Raises:
        FingerprintError: the expert was trained on another model than the registered one.
        InputError: the name is empty or that of a mode, or the dimensions of a linear expert are
            not the encoder's. Whether a LoRA expert fits shows in ``AdapterBank.add``.
    """
    if isinstance(expert, LinearExpert) and expert.dimensions != encoder.dimensions:
        raise InputError(
            f"expert {name!r} maps {expert.dimensions} dimensions, encoder {encoder.name!r} has"
            f" {encoder.dimensions}"
        )
    with translated():
        connection.execute(
            "select pgembed.register_expert(%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                encoder.name,
                name,
                expert.kind,
                encoder.fingerprint,
                artifact_of(expert),
                state,
                domain,
                trained_on,
                Jsonb(dict(metrics or {})),
            ),
        )


def artifact_of(expert: AnyExpert) -> bytes:
    """The bytes of an expert, in the layout of its kind."""
    return lora_to_bytes(expert) if isinstance(expert, LoraExpert) else expert.to_bytes()


def check_name(name: str) -> None:
    """Raise InputError for a name that the database would refuse, before time is spent on it."""
    if name in ("", "base", "soft", "hard"):
        raise InputError(f"{name!r} cannot name an expert: it is empty, or the name of a mode")


def retire_expert(connection: Connection, encoder: str, name: str) -> None:
    """Take an expert out of routing; its row stays, and so does the way back.

    Raises:
        NotFoundError: the encoder has no such expert.
        InputError: the expert is ``base``.
    """
    with translated():
        connection.execute("select pgembed.retire_expert(%s, %s)", (encoder, name))


def list_experts(connection: Connection, encoder: str | None = None) -> list[Expert]:
    """Experts by encoder and name, whatever their state."""
    with translated():
        rows = rows_of(
            connection,
            "select name, encoder, kind, state, domain, metrics from pgembed.expert"
            " where %(encoder)s::text is null or encoder = %(encoder)s order by encoder, name",
            {"encoder": encoder},
        )
    return [Expert(*row) for row in rows]


def load_experts(connection: Connection, encoder: str) -> dict[str, AnyExpert]:
    """The active experts of an encoder, by name; ``base`` is none, because it changes nothing.

    Raises:
        NotFoundError: no such encoder.
        InputError: an artifact is damaged: its checksum or its layout is wrong.
        FingerprintError: an expert belongs to another model than the registered one.
    """
    spec = registered_encoder(connection, encoder)
    with translated():
        rows = rows_of(
            connection,
            "select name, kind, fingerprint, artifact, sha256 from pgembed.expert"
            " where encoder = %s and state = 'active' and kind <> 'base'",
            (encoder,),
        )
    return {name: _load(spec, name, *rest) for name, *rest in rows}


def load_expert(connection: Connection, encoder: str, name: str) -> AnyExpert:
    """One expert of an encoder, whatever its state.

    Raises:
        NotFoundError: no such encoder, or it has no such expert; ``base`` is none.
        InputError: the artifact is damaged.
        FingerprintError: the expert belongs to another model than the registered one.
    """
    spec = registered_encoder(connection, encoder)
    with translated():
        rows = rows_of(
            connection,
            "select name, kind, fingerprint, artifact, sha256 from pgembed.expert"
            " where encoder = %s and name = %s and kind <> 'base'",
            (encoder, name),
        )
    if not rows:
        raise NotFoundError(
            f"encoder {encoder!r} has no expert {name!r}", hint="see pgembed expert list"
        )
    return _load(spec, *rows[0])


def _load(
    spec: EncoderSpec, name: str, kind: str, fingerprint: str, artifact: bytes, checksum: str
) -> AnyExpert:
    if fingerprint != spec.fingerprint:
        raise FingerprintError(f"expert {name!r} belongs to another model than {spec.name!r}")
    if hashlib.sha256(artifact).hexdigest() != checksum:
        raise InputError(f"the artifact of expert {name!r} does not have its checksum")
    try:
        if kind == LoraExpert.kind:
            return lora_from_bytes(bytes(artifact))
        return LinearExpert.from_bytes(bytes(artifact), spec.dimensions)
    except InputError as error:
        retire = sql.SQL("select pgembed.retire_expert({}, {});").format(spec.name, name)
        raise InputError(
            f"expert {name!r} of encoder {spec.name!r} is damaged: {error}",
            hint=f"Take it out: {retire.as_string(None)}",
        ) from error

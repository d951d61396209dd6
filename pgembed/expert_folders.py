"""Experts as folders: imported from PEFT or from another database, and exported to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pgembed.database import Connection
from pgembed.encoders import hub, minilm
from pgembed.encoders.bank import AdapterBank
from pgembed.encoders.lora_files import CONFIG, export_peft, import_peft
from pgembed.errors import FingerprintError, InputError
from pgembed.experts import AnyExpert, check_name, load_expert, register_expert
from pgembed.linear_expert import LinearExpert
from pgembed.lora_expert import LoraExpert
from pgembed.model import EncoderSpec
from pgembed.registry import open_registered, registered_encoder

ORIGIN = "pgembed.json"
"""Kind of an exported expert, and the fingerprint of its base model."""

LINEAR = "linear.bin"
"""The bytes of a linear expert."""


def import_expert(
    connection: Connection,
    encoder: str,
    name: str,
    folder: Path,
    *,
    kind: str | None = None,
    domain: str | None = None,
) -> AnyExpert:
    """Register an expert from a folder, as active; nothing is committed here.

    Args:
        connection: the caller's.
        encoder: registered name of the base model.
        name: of the expert; one of that name is replaced.
        folder: saved by PEFT, or by ``export_expert``.
        kind: ``lora`` or ``linear``; None finds out.
        domain: that it was trained on, if any.

    Raises:
        InputError: the folder holds no such expert, or one that does not fit the model.
        FingerprintError: the folder was exported from another model.
        EncoderError: of LoRA, the model is not prepared.
        NotFoundError: no such encoder.
    """
    check_name(name)
    spec, folder = registered_encoder(connection, encoder), Path(folder)
    origin = _origin(folder)
    if origin.get("fingerprint", spec.fingerprint) != spec.fingerprint:
        raise FingerprintError(
            f"the expert in {folder} belongs to another model than {encoder!r}",
            hint="import it for the encoder that it was trained on",
        )
    expert = _read(folder, kind or ("lora" if (folder / CONFIG).is_file() else "linear"), spec)
    if origin.get("sha256", expert.sha256) != expert.sha256:
        raise InputError(
            f"the expert in {folder} is not the one that was exported: its checksum differs",
            hint=f"export it again; without {ORIGIN} it is imported as it is",
        )
    if isinstance(expert, LoraExpert):
        AdapterBank.open(open_registered(connection, encoder)).add(name, expert)
    source = f"imported from {folder.name}"
    register_expert(connection, spec, name, expert, domain=domain, trained_on=source)
    return expert


def export_expert(
    connection: Connection, encoder: str, name: str, folder: Path, *, base_model: str | None = None
) -> AnyExpert:
    """Write an expert into a folder; one of kind ``lora`` can be read by PEFT.

    Args:
        connection: the caller's.
        encoder: registered name of the base model.
        name: of the expert, whatever its state.
        folder: made when it does not exist; files of an earlier export are replaced.
        base_model: name of the model for PEFT; by default what the encoder's source says.

    Raises:
        NotFoundError: no such encoder, or it has no such expert.
        InputError: the artifact is damaged, or the folder cannot be written.
    """
    spec, folder = registered_encoder(connection, encoder), Path(folder)
    expert = load_expert(connection, encoder, name)
    origin = {"kind": expert.kind, "fingerprint": spec.fingerprint, "sha256": expert.sha256}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(expert, LoraExpert):
            export_peft(expert, folder, base_model or _base_model(spec))
        else:
            (folder / LINEAR).write_bytes(expert.to_bytes())
        (folder / ORIGIN).write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written: {error.strerror}", hint="name another folder"
        ) from error
    return expert


def _read(folder: Path, kind: str, spec: EncoderSpec) -> AnyExpert:
    if kind == LoraExpert.kind:
        return import_peft(folder)
    if kind != LinearExpert.kind:
        raise InputError(f"{kind!r} is no kind of expert", hint="kinds are lora and linear")
    path = folder / LINEAR
    try:
        return LinearExpert.from_bytes(path.read_bytes(), spec.dimensions)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}",
            hint="name a folder that pgembed expert export or PEFT has written",
        ) from error


def _origin(folder: Path) -> dict[str, Any]:
    """What an export says of itself; nothing for a folder of PEFT's."""
    path = folder / ORIGIN
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}", hint="export the expert again") from error
    return found if isinstance(found, dict) else {}


def _base_model(spec: EncoderSpec) -> str:
    if spec.source == minilm.SOURCE:
        return minilm.MODEL
    return spec.source.removeprefix(hub.SCHEME)

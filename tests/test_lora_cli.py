"""Preparing encoders and moving LoRA experts on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from pgembed.cli.app import app
from pgembed.database import connect
from pgembed.encoders.lora_files import CONFIG, export_peft
from pgembed.errors import FingerprintError, InputError
from pgembed.expert_folders import LINEAR, ORIGIN
from pgembed.experts import register_expert
from pgembed.linear_expert import LinearExpert
from pgembed.registry import registered_encoder
from tests.encoders.tiny_bert import make_tiny_bert, random_expert


def pgembed(*words: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(app, [str(word) for word in words])


def test_an_encoder_is_prepared(tmp_path: Path) -> None:
    """Split, targets and folder as asked for; json says what is there."""
    folder = str(make_tiny_bert(tmp_path / "bert"))
    said = pgembed("encoder", "prepare", folder)
    assert said.exit_code == 0, said.output
    words = " ".join(said.output.split())
    assert "4 layers, split before layer 2, 8 slots; base vectors are the same" in words
    options = ["--split", "1", "--target", "key", "--out", str(tmp_path / "out"), "--json"]
    told = json.loads(pgembed("encoder", "prepare", folder, *options).output)
    assert told["folder"] == str(tmp_path / "out")
    assert (told["split"], len(told["slots"])) == (1, 4)
    assert (tmp_path / "out" / "upper.onnx").is_file()


def test_experts_come_from_folders_and_go_to_folders(
    migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Import says what came; export writes what PEFT reads."""
    monkeypatch.setenv("PGEMBED_URL", migrated_url)
    folder = str(make_tiny_bert(tmp_path / "bert"))
    assert pgembed("encoder", "add", "bert", folder).exit_code == 0
    assert pgembed("encoder", "prepare", folder).exit_code == 0
    export_peft(random_expert([2, 3]), tmp_path / "peft", "x")
    command = ["expert", "import", str(tmp_path / "peft"), "law", "--encoder", "bert"]
    said = pgembed(*command, "--kind", "lora")
    assert said.exit_code == 0, said.output
    assert "Expert law: kind lora, rank 2, active." in said.output
    assert json.loads(pgembed(*command, "--json").output)["kind"] == "lora"
    out = tmp_path / "out"
    said = pgembed("expert", "export", "law", str(out), "--encoder", "bert", "--base-model", "me/b")
    assert said.exit_code == 0, said.output
    assert json.loads((out / CONFIG).read_text())["base_model_name_or_path"] == "me/b"


def test_a_changed_export_is_refused(
    migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checksum is compared, and a folder of another model does not come in."""
    monkeypatch.setenv("PGEMBED_URL", migrated_url)
    with connect(migrated_url) as connection:
        spec = registered_encoder(connection, "tiny")
        weights = np.full((spec.dimensions, 2), 0.1, dtype=np.float32)
        register_expert(connection, spec, "law", LinearExpert(weights, weights.T.copy()))
    out = tmp_path / "out"
    command = ["expert", "import", out, "again", "--encoder", "tiny"]
    assert pgembed("expert", "export", "law", out, "--encoder", "tiny").exit_code == 0
    assert pgembed(*command).exit_code == 0
    data = bytearray((out / LINEAR).read_bytes())
    data[-1] ^= 1
    (out / LINEAR).write_bytes(bytes(data))
    with pytest.raises(InputError, match="checksum differs"):
        pgembed_or_raise(*command)
    origin = json.loads((out / ORIGIN).read_text()) | {"fingerprint": "0" * 64}
    (out / ORIGIN).write_text(json.dumps(origin))
    with pytest.raises(FingerprintError, match="another model"):
        pgembed_or_raise(*command)


def pgembed_or_raise(*words: object) -> Result:
    """Run a command, with its error raised."""
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)

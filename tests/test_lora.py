"""LoRA experts as values, as bytes, as PEFT's folders, and in the database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from pgembed.encoders.lora_files import (
    CONFIG,
    WEIGHTS,
    export_peft,
    import_peft,
    lora_from_bytes,
    lora_to_bytes,
)
from pgembed.encoders.preparing import prepare
from pgembed.errors import EncoderError, FingerprintError, InputError, NotFoundError
from pgembed.expert_folders import export_expert, import_expert
from pgembed.experts import load_expert, load_experts, register_expert
from pgembed.linear_expert import LinearExpert
from pgembed.lora_expert import TARGETS, LoraExpert
from pgembed.model import EncoderSpec
from pgembed.registry import open_registered, register_encoder
from tests.databases import Connection
from tests.encoders.tiny_bert import LAYERS, make_tiny_bert, random_expert

SLOT = "encoder.layer.3.attention.self.query"
OTHER = "encoder.layer.3.attention.self.value"


def same(one: LoraExpert, other: LoraExpert) -> bool:
    """Whether two experts do the same."""
    return one.sha256 == other.sha256 and one.slots == other.slots and one.alpha == other.alpha


def test_an_expert_knows_its_shape() -> None:
    """Slots stand in the order of their layers; the residual is scaled by alpha / rank."""
    expert = random_expert([10, 2], rank=4)
    assert expert.kind == "lora"
    assert LinearExpert.kind == "linear"
    assert (expert.rank, expert.alpha, expert.scale, expert.layers) == (4, 8.0, 2.0, (2, 10))
    assert expert.slots[0] == "encoder.layer.2.attention.self.query"
    assert expert.nbytes == 4 * 2 * 4 * 32 * 4
    expected = 2.0 * expert.A[expert.slots[0]] @ expert.B[expert.slots[0]]
    assert np.allclose(expert.delta(expert.slots[0]), expected)


@pytest.mark.parametrize(
    ("A", "B", "alpha", "message"),
    [
        ({}, {}, 1.0, "without a slot"),
        ({SLOT: np.ones((4, 2))}, {}, 1.0, f"{SLOT} has only one of A and B"),
        (
            {"pooler.dense": np.ones((4, 2))},
            {"pooler.dense": np.ones((2, 4))},
            1.0,
            "no projection",
        ),
        ({SLOT: np.ones((4, 2))}, {SLOT: np.ones((3, 4))}, 1.0, r"not \(4, 2\) and \(3, 4\)"),
        ({SLOT: np.ones(4)}, {SLOT: np.ones((2, 4))}, 1.0, "needs matrices"),
        ({SLOT: np.ones((4, 0))}, {SLOT: np.ones((0, 4))}, 1.0, "needs matrices"),
        ({SLOT: np.full((4, 2), np.nan)}, {SLOT: np.ones((2, 4))}, 1.0, "not a finite number"),
        ({SLOT: np.ones((4, 2))}, {SLOT: np.full((2, 4), np.inf)}, 1.0, "not a finite number"),
        ({SLOT: np.ones((4, 2))}, {SLOT: np.ones((2, 4))}, 0.0, "alpha is a number above 0"),
        ({SLOT: np.ones((4, 2))}, {SLOT: np.ones((2, 4))}, np.inf, "alpha is a number above 0"),
        (
            {SLOT: np.ones((4, 2)), OTHER: np.ones((4, 3))},
            {SLOT: np.ones((2, 4)), OTHER: np.ones((3, 4))},
            1.0,
            r"share their rank, not \[2, 3\]",
        ),
    ],
)
def test_what_is_no_expert_is_refused(A: Any, B: Any, alpha: float, message: str) -> None:
    """With the slot and the reason."""
    with pytest.raises(InputError, match=message):
        LoraExpert(A, B, alpha)


def test_bytes_come_back() -> None:
    """Equal experts have equal bytes; others have others, and another hash."""
    expert = random_expert(range(LAYERS), parts=TARGETS.values(), rank=3)
    data = lora_to_bytes(expert)
    assert same(lora_from_bytes(data), expert)
    assert all(lora_to_bytes(expert) == data for _ in range(5))
    other = LoraExpert(expert.A, expert.B, expert.alpha + 1)
    assert lora_to_bytes(other) != data
    assert other.sha256 != expert.sha256


def test_damaged_bytes_are_refused() -> None:
    """Cut anywhere, and with any of the first bytes changed: refused, or still a sound expert."""
    data = lora_to_bytes(random_expert([3], rank=1))
    for size in range(0, len(data), 7):
        with pytest.raises(InputError):
            lora_from_bytes(data[:size])
    with pytest.raises(InputError, match="not a safetensors file"):
        lora_from_bytes(data + b"more")
    refused = 0
    for place in range(400):
        damaged = bytearray(data)
        damaged[place] ^= 0x55
        try:
            lora_from_bytes(bytes(damaged))
        except InputError:
            refused += 1
    assert refused > 300


def test_bytes_of_something_else_are_refused() -> None:
    """Tensors without our record, and another layout."""
    plain = safetensors.numpy.save({"x": np.zeros(2, np.float32)})
    with pytest.raises(InputError, match=r"no LoRA expert of pgembed[\s\S]*--kind lora"):
        lora_from_bytes(plain)
    newer = safetensors.numpy.save(
        {"x": np.zeros(2, np.float32)}, {"pgembed.lora": '{"version": 2}'}
    )
    with pytest.raises(InputError, match="layout version 2, this pgembed reads 1"):
        lora_from_bytes(newer)


def test_peft_folders_come_back(tmp_path: Path) -> None:
    """The files that PEFT writes, with its names and its orientation of matrices."""
    expert = random_expert([0, 3], rank=4)
    export_peft(expert, tmp_path / "adapter", "sentence-transformers/all-MiniLM-L6-v2")
    config = json.loads((tmp_path / "adapter" / CONFIG).read_text())
    assert config["peft_type"] == "LORA"
    assert (config["r"], config["lora_alpha"], config["bias"]) == (4, 8, "none")
    assert config["target_modules"] == list(expert.slots)
    assert config["base_model_name_or_path"] == "sentence-transformers/all-MiniLM-L6-v2"
    tensors = safetensors.numpy.load((tmp_path / "adapter" / WEIGHTS).read_bytes())
    slot = expert.slots[0]
    assert np.array_equal(tensors[f"base_model.model.{slot}.lora_A.weight"], expert.A[slot].T)
    assert np.array_equal(tensors[f"base_model.model.{slot}.lora_B.weight"], expert.B[slot].T)
    assert len(tensors) == 2 * len(expert.slots)
    assert same(import_peft(tmp_path / "adapter"), expert)


def test_the_scale_of_rank_stabilised_adapters_is_kept(tmp_path: Path) -> None:
    """That is alpha / sqrt(rank), as PEFT has it."""
    expert = random_expert([1], rank=4)
    export_peft(expert, tmp_path, "x")
    change_config(tmp_path, use_rslora=True)
    assert import_peft(tmp_path).scale == pytest.approx(expert.alpha / 2)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("use_dora", True),
        ("bias", "lora_only"),
        ("modules_to_save", ["pooler"]),
        ("rank_pattern", {"query": 4}),
        ("alpha_pattern", {"query": 4}),
        ("trainable_token_indices", [1]),
        ("init_lora_weights", "pissa"),
        ("fan_in_fan_out", True),
        ("peft_type", "IA3"),
    ],
)
def test_adapters_that_are_more_than_lora_are_refused(
    tmp_path: Path, setting: str, value: Any
) -> None:
    """By the name of the setting."""
    export_peft(random_expert([1]), tmp_path, "x")
    change_config(tmp_path, **{setting: value})
    with pytest.raises(InputError, match=setting if setting != "peft_type" else "type IA3"):
        import_peft(tmp_path)


KEY = f"base_model.model.{SLOT}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({f"{KEY}.lora_magnitude_vector.weight": np.ones(4)}, "is no part of a LoRA adapter"),
        (
            {"base_model.model.embeddings.word_embeddings.lora_embedding_A": np.ones((2, 4))},
            "no part",
        ),
        ({"base_model.model.pooler.dense.lora_A.weight": np.ones((2, 4))}, "no part"),
        ({f"{KEY}.lora_A.weight": np.ones(4)}, "is a matrix"),
        ({f"{KEY}.lora_A.weight": np.ones((3, 4))}, "needs A"),
        ({f"{KEY}.lora_A.weight": np.full((2, 4), np.nan)}, "not a finite number"),
        ({f"{KEY}.lora_A.weight": np.full((2, 4), 1e300)}, "not a finite number"),
        ({f"{KEY}.lora_A.weight": np.ones((2, 4), np.int8)}, "is of type I8"),
        ({f"base_model.model.bert.{SLOT}.lora_A.weight": np.ones((2, 4))}, "two matrices A"),
        ({f"base_model.model.{OTHER}.lora_A.weight": np.ones((2, 4))}, "only one of A and B"),
    ],
)
def test_wrong_tensors_are_refused(
    tmp_path: Path, changes: dict[str, np.ndarray[Any, Any]], message: str
) -> None:
    """Each by its name or its slot."""
    expert = LoraExpert({SLOT: np.ones((4, 2))}, {SLOT: np.ones((2, 4))}, 4.0)
    export_peft(expert, tmp_path, "x")
    tensors = safetensors.numpy.load((tmp_path / WEIGHTS).read_bytes()) | changes
    (tmp_path / WEIGHTS).write_bytes(safetensors.numpy.save(tensors))
    with pytest.raises(InputError, match=message):
        import_peft(tmp_path)


def test_smaller_numbers_and_wrapped_models_are_read(tmp_path: Path) -> None:
    """float16 and bfloat16, and PEFT's names for a model inside another one."""
    ones = {f"base_model.model.bert.{SLOT}.lora_A.weight": np.full((2, 4), 1.5, np.float16)}
    ones[f"base_model.model.bert.{SLOT}.lora_B.weight"] = np.full((4, 2), 1.5, np.float16)
    export_peft(LoraExpert({SLOT: np.ones((4, 2))}, {SLOT: np.ones((2, 4))}, 4.0), tmp_path, "x")
    (tmp_path / WEIGHTS).write_bytes(safetensors.numpy.save(ones))
    half = import_peft(tmp_path)
    assert half.A[SLOT].dtype == np.float32
    assert set(half.A[SLOT].ravel()) == {1.5}
    entries = {
        name: {"dtype": "BF16", "shape": v.shape, "data_offsets": [16 * n, 16 * n + 16]}
        for n, (name, v) in enumerate(ones.items())
    }
    header = json.dumps(entries).encode()
    brain = len(header).to_bytes(8, "little") + header + b"\xc0\x3f" * 16
    (tmp_path / WEIGHTS).write_bytes(brain)
    assert same(import_peft(tmp_path), half)


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    """And a rank that is not that of the matrices."""
    with pytest.raises(InputError, match=r"adapter_config\.json cannot be read"):
        import_peft(tmp_path)
    export_peft(random_expert([1]), tmp_path, "x")
    change_config(tmp_path, r=16)
    with pytest.raises(InputError, match="says rank 16, but its matrices have 2"):
        import_peft(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(InputError, match=r"adapter_model\.safetensors cannot be read"):
        import_peft(tmp_path)
    (tmp_path / CONFIG).write_text("{")
    with pytest.raises(InputError, match="is no json"):
        import_peft(tmp_path)


def change_config(folder: Path, **changes: Any) -> None:
    """Change settings of a saved adapter."""
    config = json.loads((folder / CONFIG).read_text()) | changes
    (folder / CONFIG).write_text(json.dumps(config))


@pytest.fixture
def spec(connection: Connection, tmp_path: Path) -> EncoderSpec:
    """A registered encoder that is a BERT."""
    return register_encoder(connection, str(make_tiny_bert(tmp_path / "bert")), name="bert")


def test_an_expert_is_a_row(connection: Connection, spec: EncoderSpec) -> None:
    """Experts of both kinds are loaded side by side."""
    expert = random_expert([3])
    register_expert(connection, spec, "law", expert, domain="law")
    linear = LinearExpert(np.ones((spec.dimensions, 2)), np.ones((2, spec.dimensions)))
    register_expert(connection, spec, "line", linear)
    loaded = load_experts(connection, "bert")
    assert isinstance(loaded["law"], LoraExpert)
    assert same(loaded["law"], expert)
    assert loaded["line"].sha256 == linear.sha256
    assert load_expert(connection, "bert", "law").sha256 == expert.sha256
    with pytest.raises(NotFoundError, match="no expert 'base'"):
        load_expert(connection, "bert", "base")


def test_an_expert_of_another_model_is_refused(connection: Connection, spec: EncoderSpec) -> None:
    """By its fingerprint, and when its bytes are damaged."""
    other = EncoderSpec("bert", "0" * 64, spec.dimensions, spec.max_tokens, spec.source)
    with connection.transaction(), pytest.raises(FingerprintError), connection.transaction():
        register_expert(connection, other, "law", random_expert([3]))
    register_expert(connection, spec, "law", random_expert([3]))
    connection.execute("update pgembed.expert set artifact = 'x' where name = 'law'")
    with pytest.raises(InputError, match=r"expert 'law' of encoder 'bert' is damaged[\s\S]*retire"):
        load_experts(connection, "bert")


def test_folders_move_experts(connection: Connection, spec: EncoderSpec, tmp_path: Path) -> None:
    """Imported after a check against the prepared model, exported, and imported again."""
    expert = random_expert([2, 3])
    export_peft(expert, tmp_path / "peft", "x")
    with pytest.raises(EncoderError, match="holds no prepared model"):
        import_expert(connection, "bert", "law", tmp_path / "peft")
    prepare(open_registered(connection, "bert"))
    import_expert(connection, "bert", "law", tmp_path / "peft", domain="law")
    found = export_expert(connection, "bert", "law", tmp_path / "out", base_model="me/bert")
    assert found.sha256 == expert.sha256
    assert (
        json.loads((tmp_path / "out" / CONFIG).read_text())["base_model_name_or_path"] == "me/bert"
    )
    again = import_expert(connection, "bert", "again", tmp_path / "out", kind="lora")
    assert again.sha256 == expert.sha256
    linear = LinearExpert(np.ones((spec.dimensions, 2)), np.ones((2, spec.dimensions)))
    register_expert(connection, spec, "line", linear)
    export_expert(connection, "bert", "line", tmp_path / "line")
    assert import_expert(connection, "bert", "line2", tmp_path / "line").sha256 == linear.sha256
    assert set(load_experts(connection, "bert")) == {"law", "again", "line", "line2"}


def test_folders_that_do_not_fit_are_refused(
    connection: Connection, spec: EncoderSpec, tmp_path: Path
) -> None:
    """Another model's, another shape, and nothing at all."""
    prepare(open_registered(connection, "bert"))
    export_peft(random_expert([9]), tmp_path / "deep", "x")
    with pytest.raises(InputError, match="no slot"):
        import_expert(connection, "bert", "law", tmp_path / "deep")
    register_expert(connection, spec, "law", random_expert([3]))
    export_expert(connection, "bert", "law", tmp_path / "law")
    origin = {"fingerprint": "0" * 64}
    (tmp_path / "law" / "pgembed.json").write_text(json.dumps(origin))
    with pytest.raises(FingerprintError, match="belongs to another model than 'bert'"):
        import_expert(connection, "bert", "law", tmp_path / "law")
    with pytest.raises(InputError, match=r"linear\.bin cannot be read"):
        import_expert(connection, "bert", "law", tmp_path / "nothing")
    with pytest.raises(InputError, match="'x' is no kind of expert"):
        import_expert(connection, "bert", "law", tmp_path, kind="x")
    with pytest.raises(InputError, match="'base' cannot name an expert"):
        import_expert(connection, "bert", "base", tmp_path)

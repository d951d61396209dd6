"""Preparing a model: two halves that are the model, kept until something changes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from pgembed.encoders import Encoder, open_encoder
from pgembed.encoders.bank import AdapterBank
from pgembed.encoders.halves import LOWER, MANIFEST, UPPER
from pgembed.encoders.preparing import lora_folder, prepare
from pgembed.errors import EncoderError
from pgembed.lora_expert import TARGETS
from tests.encoders.tiny import make_tiny_encoder
from tests.encoders.tiny_bert import (
    HEADS,
    LAYERS,
    WIDTH,
    make_tiny_bert,
    random_expert,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's directory."""
    return make_tiny_bert(tmp_path / "bert")


@pytest.fixture
def encoder(folder: Path) -> Encoder:
    """It is not prepared yet."""
    return open_encoder(str(folder))


def stamps(folder: Path) -> dict[str, int]:
    """When each file was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_the_halves_are_written_once(encoder: Encoder, folder: Path) -> None:
    """Beside the model; the same call again changes nothing, another one does."""
    manifest = prepare(encoder)
    place = folder / "lora"
    assert lora_folder(encoder) == place
    assert sorted(stamps(place)) == [LOWER, MANIFEST, UPPER]
    assert (manifest.split, manifest.layers, manifest.width) == (LAYERS // 2, LAYERS, WIDTH)
    assert manifest.heads == HEADS
    assert manifest.base_difference == 0
    assert set(manifest.slots) == {
        f"encoder.layer.{n}.attention.self.{part}"
        for n in range(LAYERS)
        for part in ("query", "value")
    }
    before = stamps(place)
    assert prepare(encoder) == manifest
    assert stamps(place) == before
    assert prepare(encoder, split=1).split == 1
    assert stamps(place) != before


def test_the_halves_share_no_weights(encoder: Encoder, folder: Path) -> None:
    """Together they are about as large as the model, and no matrix is in both."""
    prepare(encoder)
    names = [
        {
            tensor.name
            for tensor in onnx.load(folder / "lora" / half).graph.initializer
            if tensor.dims
        }
        for half in (LOWER, UPPER)
    ]
    assert not {name for name in names[0] & names[1] if "encoder.layer" in name}
    size = sum((folder / "lora" / half).stat().st_size for half in (LOWER, UPPER))
    assert size < 1.1 * (folder / "model.onnx").stat().st_size


@pytest.mark.parametrize("split", range(LAYERS))
def test_it_can_be_split_before_every_layer(encoder: Encoder, tmp_path: Path, split: int) -> None:
    """Base and an expert of the last layer do not depend on the split."""
    prepare(encoder, split=split, folder=tmp_path / "out")
    bank = AdapterBank.open(encoder, tmp_path / "out")
    bank.add("law", random_expert([LAYERS - 1]))
    states = bank.start(["apples and trees", "trees"])
    assert np.array_equal(states.base, encoder.encode_query(["apples and trees", "trees"]))
    assert bank.cost("law") == (LAYERS - split) / LAYERS
    prepare(encoder)
    other = AdapterBank.open(encoder)
    other.add("law", random_expert([LAYERS - 1]))
    expected = other.finish(other.start(["trees"]), [0], ["law"])
    assert np.abs(bank.finish(states, [1], ["law"]) - expected).max() < 1e-6


def test_what_was_changed_is_noticed(encoder: Encoder, folder: Path) -> None:
    """A file changed, gone, or a manifest that cannot be read; preparing again mends it."""
    place = folder / "lora"
    with pytest.raises(EncoderError, match=r"holds no prepared model[\s\S]*encoder prepare"):
        AdapterBank.open(encoder)
    for damage, message in (
        (lambda: (place / UPPER).write_bytes(b"x"), r"upper\.onnx was changed"),
        (lambda: (place / LOWER).unlink(), r"lower\.onnx is missing"),
        (lambda: (place / MANIFEST).write_text("{"), r"manifest\.json is damaged"),
        (lambda: (place / MANIFEST).write_text('{"version": 1}'), r"manifest\.json is damaged"),
        (lambda: (place / MANIFEST).write_text('{"version": 0}'), "another version"),
    ):
        prepare(encoder)
        damage()
        with pytest.raises(EncoderError, match=message):
            AdapterBank.open(encoder)
    prepare(encoder)
    assert AdapterBank.open(encoder).start(["trees"]).base.shape == (1, WIDTH)


def test_another_graph_is_noticed(encoder: Encoder, folder: Path) -> None:
    """A prepared model belongs to the graph that it was made from."""
    prepare(encoder)
    make_tiny_bert(folder, seed=1)
    with pytest.raises(EncoderError, match="was prepared from another graph"):
        AdapterBank.open(open_encoder(str(folder)))


def test_what_cannot_be_prepared_is_refused(encoder: Encoder, tmp_path: Path) -> None:
    """No BERT, no such layer, no such projection; nothing is left behind."""
    strange = open_encoder(str(make_tiny_encoder(tmp_path / "tiny")))
    with pytest.raises(EncoderError, match=r"cannot take adapters: query projections .* none"):
        prepare(strange)
    with pytest.raises(EncoderError, match=r"4 layers cannot be split before layer 4[\s\S]*0 to 3"):
        prepare(encoder, split=LAYERS)
    with pytest.raises(EncoderError, match=r"no projection 'pooler'[\s\S]*choose of query, key"):
        prepare(encoder, targets=["pooler"])
    with pytest.raises(EncoderError, match="adapters need a projection"):
        prepare(encoder, targets=[])
    assert not list(lora_folder(encoder).glob("*"))


def test_a_graph_without_one_cut_is_refused(folder: Path) -> None:
    """Where a value of the lower half goes around the boundary, the cut is none."""
    model = onnx.load(folder / "model.onnx")
    first = next(n for n in model.graph.node if n.op_type == "Gelu")
    last = [n for n in model.graph.node if n.op_type == "Gelu"][-1]
    last.input[0] = f"{last.input[0]} and more"
    added = onnx.helper.make_node(
        "Add", [last.input[0].split()[0], first.output[0]], [last.input[0]]
    )
    model.graph.node.insert(list(model.graph.node).index(last), added)
    onnx.save(model, folder / "model.onnx")
    with pytest.raises(EncoderError, match=r"before layer 2 it cannot be split at one value"):
        prepare(open_encoder(str(folder)))


def test_a_model_that_cannot_be_written_beside_goes_to_the_cache(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one that the system's user owns."""
    monkeypatch.setenv("PGEMBED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert lora_folder(encoder).parent == tmp_path / "cache"
    prepare(encoder)
    assert AdapterBank.open(encoder).names == ()


@pytest.mark.parametrize("opset", [14, 17])
def test_an_export_of_torch_can_be_prepared(tmp_path: Path, opset: int) -> None:
    """With layer normalisation as one operator or as many; experts give what our own graph gives."""
    pytest.importorskip("torch")
    from tests.encoders.torch_export import torch_export

    exported = open_encoder(str(torch_export(tmp_path / "exported", opset)))
    manifest = prepare(exported, targets=tuple(TARGETS))
    assert manifest.base_difference <= 1e-5
    assert (manifest.layers, manifest.heads) == (LAYERS, HEADS)
    bank = AdapterBank.open(exported)
    expert = random_expert(range(LAYERS), parts=TARGETS.values())
    bank.add("law", expert)
    states = bank.start(["apples and trees", "trees"])
    assert np.abs(states.base - exported.encode_query(["apples and trees", "trees"])).max() < 1e-6
    own = open_encoder(str(make_tiny_bert(tmp_path / "own")))
    prepare(own, targets=tuple(TARGETS))
    reference = AdapterBank.open(own)
    reference.add("law", expert)
    expected = reference.finish(reference.start(["trees"]), [0], ["law"])
    # Our own graph stores matrices as float16.
    assert np.abs(bank.finish(states, [1], ["law"]) - expected).max() < 0.02

"""A bank of LoRA experts: the base stays the base, experts mix, come and go."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from pgembed.encoders import Encoder, open_encoder
from pgembed.encoders.bank import AdapterBank
from pgembed.encoders.preparing import prepare
from pgembed.errors import InputError, NotFoundError
from pgembed.lora_expert import TARGETS, LoraExpert
from tests.encoders.tiny_bert import LAYERS, make_tiny_bert, merge_into, random_expert

TEXTS = [
    "apples keep the doctor away",
    "a",
    "how do I get to work when the train is late and the bus does not come",
    "trees",
    "what is the capital of the old kingdom",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's directory."""
    return make_tiny_bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    """It is prepared with every slot."""
    opened = open_encoder(str(folder))
    prepare(opened, targets=tuple(TARGETS))
    return opened


@pytest.fixture
def bank(encoder: Encoder) -> AdapterBank:
    """An empty one."""
    return AdapterBank.open(encoder)


def test_base_is_that_of_the_encoder_bit_for_bit(encoder: Encoder, bank: AdapterBank) -> None:
    """Also while there are experts in the bank, and over many batches."""
    bank.add("law", random_expert(range(LAYERS)))
    texts = [f"{text} {number}" for number in range(20) for text in TEXTS]
    assert np.array_equal(bank.start(texts).base, encoder.encode_query(texts))


@pytest.mark.parametrize("layers", [range(LAYERS), range(2, LAYERS)])
def test_an_expert_of_zeros_is_the_base_bit_for_bit(bank: AdapterBank, layers: range) -> None:
    """Beside another expert, in a batch of the same shape."""
    bank.add("zero", random_expert(layers, size=0))
    bank.add("other", random_expert(layers))
    states = bank.start([TEXTS[0], TEXTS[0]])
    found = bank.finish(states, [0, 1], ["zero", "other"])
    assert np.array_equal(found[0], states.base[0])
    assert found[1] @ states.base[0] < 0.99


@pytest.mark.parametrize("parts", [[part] for part in TARGETS.values()] + [list(TARGETS.values())])
@pytest.mark.parametrize("layers", [range(LAYERS), range(2, LAYERS)])
def test_an_expert_equals_the_model_with_merged_matrices(
    folder: Path, bank: AdapterBank, tmp_path: Path, layers: range, parts: list[str]
) -> None:
    """Every projection, in the upper half alone and in all layers."""
    expert = random_expert(layers, parts=parts)
    bank.add("law", expert)
    merged = open_encoder(str(merge_into(folder, tmp_path / "merged", expert)))
    states = bank.start(TEXTS)
    found = bank.finish(states, range(len(TEXTS)), ["law"] * len(TEXTS))
    expected = merged.encode_query(TEXTS)
    assert np.abs(found - expected).max() < 1e-5
    assert np.abs(found - states.base).max() > 1e-3


def test_a_mixed_batch_equals_one_by_one(bank: AdapterBank) -> None:
    """Different ranks, halves, and the base itself; rows repeated and out of order."""
    bank.add("law", random_expert(range(2, LAYERS), rank=1))
    bank.add("medicine", random_expert(range(2, LAYERS), rank=4, seed=1))
    bank.add("deep", random_expert(range(LAYERS), rank=2, seed=2))
    bank.add("lower", random_expert([0], rank=3, seed=3))
    states = bank.start(TEXTS)
    rows = [row for row in (4, 0, 2, 1, 3) for _ in range(5)]
    names = ["law", "base", "deep", "medicine", "lower"] * 5
    mixed = bank.finish(states, rows, names)
    single = [bank.finish(states, [r], [n])[0] for r, n in zip(rows, names, strict=True)]
    assert np.abs(mixed - np.array(single)).max() < 1e-6
    assert np.array_equal(mixed[1], states.base[4])
    assert len({vector.tobytes() for vector in mixed}) == 25


def test_states_can_be_taken_apart(bank: AdapterBank) -> None:
    """Rows of a part are those of the whole."""
    bank.add("law", random_expert([3]))
    states = bank.start(TEXTS)
    taken = states.take([3, 1])
    assert np.array_equal(taken.base, states.base[[3, 1]])
    both = bank.finish(taken, [0, 1], ["law", "law"])
    assert np.abs(both - bank.finish(states, [3, 1], ["law", "law"])).max() < 1e-6


def test_nothing_in_nothing_out(bank: AdapterBank) -> None:
    """No query, and no row."""
    states = bank.start([])
    assert states.base.shape == (0, 32)
    assert bank.finish(states, [], []).shape == (0, 32)


def test_passes_are_counted(bank: AdapterBank) -> None:
    """A base query is one, an expert of the upper half half a one, base again none."""
    bank.add("law", random_expert([2, 3]))
    bank.add("deep", random_expert([1, 3]))
    assert (bank.cost("law"), bank.cost("deep"), bank.cost("base")) == (0.5, 1.0, 0.0)
    states = bank.start(TEXTS[:2])
    assert bank.passes == 2
    bank.finish(states, [0, 1, 1, 0], ["law", "law", "deep", "base"])
    assert bank.passes == 2 + 0.5 + 0.5 + 1


def test_experts_come_and_go(bank: AdapterBank) -> None:
    """Added, replaced and removed without opening anything again."""
    states = bank.start(TEXTS[:1])
    bank.add("law", random_expert([3], rank=1))
    bank.add("medicine", random_expert([2, 3], rank=3, seed=1))
    assert bank.names == ("law", "medicine")
    (first,) = bank.finish(states, [0], ["law"])
    (medicine,) = bank.finish(states, [0], ["medicine"])
    bank.add("law", random_expert([3], rank=1, seed=5))
    assert not np.allclose(bank.finish(states, [0], ["law"])[0], first)
    bank.remove("law")
    assert bank.names == ("medicine",)
    assert np.allclose(bank.finish(states, [0], ["medicine"])[0], medicine, atol=1e-6)
    with pytest.raises(NotFoundError, match=r"no expert 'law'[\s\S]*It has medicine"):
        bank.finish(states, [0], ["law"])
    with pytest.raises(NotFoundError):
        bank.remove("law")
    bank.remove("medicine")
    assert bank.nbytes == 0


def test_an_expert_takes_little_more_than_its_bytes(bank: AdapterBank) -> None:
    """Equal ranks: what each further expert adds, and what the base's zeros cost once."""
    expert = random_expert(range(LAYERS), parts=TARGETS.values(), rank=8)
    sizes = []
    for number in range(6):
        bank.add(f"expert {number}", expert)
        sizes.append(bank.nbytes)
    assert np.diff(sizes).tolist() == [expert.nbytes] * 5
    assert bank.nbytes <= 1.2 * 6 * expert.nbytes


def test_what_does_not_fit_is_refused(encoder: Encoder, bank: AdapterBank, tmp_path: Path) -> None:
    """Unknown layer, wrong width, no slot, no name; the bank stays as it was."""
    with pytest.raises(InputError, match=r"has weights for encoder\.layer\.4\..*no slot"):
        bank.add("law", random_expert([4]))
    wide = random_expert([3])
    slot = wide.slots[0]
    other = type(wide)({slot: np.ones((384, 2))}, {slot: np.ones((2, 384))}, 2.0)
    with pytest.raises(InputError, match=r"maps 384 to 384 numbers at .*, the model 32 to 32"):
        bank.add("law", other)
    prepare(encoder, folder=tmp_path)
    with pytest.raises(InputError, match=r"no slot[\s\S]*--target"):
        AdapterBank.open(encoder, tmp_path).add("law", random_expert([3], parts=["output.dense"]))
    with pytest.raises(InputError, match="'base' is the model without an expert"):
        bank.add("base", wide)
    assert bank.names == ()
    with pytest.raises(InputError, match="2 rows need one expert each, not 1"):
        bank.finish(bank.start(TEXTS), [0, 1], ["base"])
    with pytest.raises(InputError, match="query text 0 is empty"):
        bank.start([" "])


def test_experts_change_while_queries_run(bank: AdapterBank) -> None:
    """A call sees the bank as it was when the call began."""
    bank.add("kept", random_expert(range(LAYERS), rank=4))
    states = bank.start(TEXTS)
    expected = bank.finish(states, range(5), ["kept"] * 5)
    wrong: list[float] = []

    def run() -> None:
        for _ in range(30):
            found = bank.finish(states, range(5), ["kept"] * 5)
            wrong.append(float(np.abs(found - expected).max()))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(30):
        bank.add("other", random_expert(range(LAYERS), rank=1 + number % 6, seed=number))
        bank.remove("other")
    for thread in threads:
        thread.join()
    assert len(wrong) == 90
    assert max(wrong) < 1e-6


@pytest.mark.minilm
def test_minilm_prepares_itself() -> None:
    """Its base is the encoder's bit for bit, and an expert of its upper half costs half a pass."""
    minilm = open_encoder("minilm")
    bank = AdapterBank.open(minilm)
    assert bank.manifest.base_difference == 0
    states = bank.start(TEXTS)
    assert np.array_equal(states.base, minilm.encode_query(TEXTS))
    slot = "encoder.layer.5.attention.self.value"
    matrix = np.full((384, 1), 0.1, dtype=np.float32)
    bank.add("law", LoraExpert({slot: matrix}, {slot: matrix.T}, 1.0))
    assert bank.cost("law") == 0.5
    assert bank.finish(states, [0], ["law"])[0] @ states.base[0] < 0.999

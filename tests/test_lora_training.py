"""Training LoRA experts: torch is the model, training helps, repeats itself and can be resumed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pgembed.contrastive import TrainingProblem
from pgembed.encoders import open_encoder
from pgembed.encoders.bank import AdapterBank
from pgembed.encoders.preparing import prepare
from pgembed.errors import EncoderError, InputError, TrainingError
from pgembed.lora_expert import TARGETS
from pgembed.lora_training import LoraSettings, train_lora
from pgembed.metrics import Corpus, ndcg_of
from pgembed.trained import TrainingStep
from tests.encoders.tiny_bert import LAYERS, make_tiny_bert, random_expert

torch = pytest.importorskip("torch")
LoraModel = pytest.importorskip("pgembed.lora_model").LoraModel

TOPICS = ("apples", "trains", "doctors", "castles", "rivers", "lawyers")
WORDS = ("old", "green", "great", "small", "late", "good", "empty", "first", "heavy", "quiet")
SETTINGS = LoraSettings(
    rank=4, steps=40, evaluate_every=10, batch=16, learning_rate=1e-2, random=4, mined=0
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Threads only wait for one another on matrices as small as these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> AdapterBank:
    """Of a tiny BERT with every slot."""
    folder = make_tiny_bert(tmp_path_factory.mktemp("models") / "bert")
    encoder = open_encoder(str(folder))
    prepare(encoder, targets=tuple(TARGETS))
    return AdapterBank.open(encoder)


@pytest.fixture(scope="module")
def problem(bank: AdapterBank) -> TrainingProblem:
    """Queries about a topic are answered by the documents of the next topic."""
    encode = bank.encoder.encode_query
    documents = [f"{topic} {word}" for topic in TOPICS for word in WORDS]
    train = [f"{a} {b} {t}" for t in TOPICS for a in WORDS[:6] for b in WORDS[3:7]]
    dev = [f"{a} {b} {t}" for t in TOPICS for a in WORDS[7:] for b in WORDS[:2]]

    def relevant(query: str) -> dict[int, int]:
        following = (TOPICS.index(query.split()[-1]) + 1) % len(TOPICS)
        return dict.fromkeys(range(10 * following, 10 * following + 10), 1)

    return TrainingProblem(
        queries=encode(train),
        positives=[relevant(query) for query in train],
        mined=[[] for _ in train],
        corpus=Corpus(bank.encoder.encode_document(documents), np.arange(len(documents))),
        dev_queries=encode(dev),
        dev_relevant=[relevant(query) for query in dev],
        name="next topic",
        texts=train,
        dev_texts=dev,
    )


@pytest.mark.parametrize("parts", [["attention.self.query"], list(TARGETS.values())])
def test_torch_gives_what_onnx_gives(bank: AdapterBank, parts: list[str]) -> None:
    """Base and expert, on texts of different lengths."""
    texts = [f"{'old ' * number}apples" for number in range(40)]
    states = bank.start(texts)
    expert = random_expert([2, 3], parts=parts)
    model = LoraModel.of(bank, states.take([0, 7]), scale=expert.scale, dropout=0.5, seed=0)
    assert np.abs(model.encode(states.hidden, {}) - states.base).max() < 1e-5
    weights = {f"{slot}.A": matrix for slot, matrix in expert.A.items()}
    weights |= {f"{slot}.B": matrix for slot, matrix in expert.B.items()}
    bank.add("candidate", expert)
    expected = bank.finish(states, range(40), ["candidate"] * 40)
    bank.remove("candidate")
    assert np.abs(model.encode(states.hidden, weights) - expected).max() < 1e-5


@pytest.mark.parametrize("opset", [14, 17])
def test_torch_gives_what_an_export_gives(tmp_path: Path, opset: int) -> None:
    """Weights are read from a graph that torch has exported, too."""
    from tests.encoders.torch_export import torch_export

    encoder = open_encoder(str(torch_export(tmp_path / "exported", opset)))
    prepare(encoder, split=1)
    bank = AdapterBank.open(encoder)
    states = bank.start(["apples and trees", "trees"])
    model = LoraModel.of(bank, states, scale=1.0, dropout=0.0, seed=0)
    assert np.abs(model.encode(states.hidden, {}) - states.base).max() < 1e-5


def test_another_architecture_is_refused(bank: AdapterBank) -> None:
    """Where torch's layers give other vectors than the graph, or the heads are unknown."""
    states = bank.start(["apples"])
    wrong = replace(states, base=-states.base)
    with pytest.raises(EncoderError, match="are not those of a BERT"):
        LoraModel.of(bank, wrong, scale=1.0, dropout=0.0, seed=0)


def test_training_helps(bank: AdapterBank, problem: TrainingProblem) -> None:
    """On dev, as the bank serves the expert; progress is told, and the base is step 0."""
    told: list[TrainingStep] = []
    trained = train_lora([problem], bank, SETTINGS, on_step=told.append)
    assert trained.expert_scores.mean() > trained.base_scores.mean() + 0.15
    assert trained.expert.layers == (2, 3)
    assert trained.expert.slots[0] == "encoder.layer.2.attention.self.query"
    assert (trained.expert.rank, trained.expert.alpha) == (4, 32.0)
    assert [step.step for step in told] == list(range(1, trained.steps + 1))
    assert [step.dev_ndcg is not None for step in told[:20]] == ([False] * 9 + [True]) * 2
    assert trained.curve[0] == (0, pytest.approx(trained.base_scores.mean()))
    assert dict(trained.curve)[trained.best_step] == pytest.approx(trained.expert_scores.mean())
    bank.add("candidate", trained.expert)
    states = bank.start(problem.dev_texts)
    served = bank.finish(states, range(len(states.ids)), ["candidate"] * len(states.ids))
    bank.remove("candidate")
    scores = ndcg_of(served, problem.corpus, problem.dev_relevant)
    assert scores.mean() == pytest.approx(trained.expert_scores.mean(), abs=1e-3)


def test_training_repeats_itself(bank: AdapterBank, problem: TrainingProblem) -> None:
    """Equal seeds give equal experts, others give others."""
    settings = replace(SETTINGS, steps=10)
    one, same = (train_lora([problem, problem], bank, settings) for _ in range(2))
    assert one.expert.sha256 == same.expert.sha256
    assert one.curve == same.curve
    other = train_lora([problem, problem], bank, replace(settings, seed=1))
    assert other.expert.sha256 != one.expert.sha256


def test_a_resumed_training_is_the_whole_one(bank: AdapterBank, problem: TrainingProblem) -> None:
    """From every checkpoint, the last without a step; that of another training is refused."""
    kept: list[bytes] = []
    whole = train_lora([problem], bank, SETTINGS, on_checkpoint=kept.append)
    assert len(kept) == 4
    for checkpoint in kept:
        steps: list[TrainingStep] = []
        resumed = train_lora([problem], bank, SETTINGS, on_step=steps.append, resume=checkpoint)
        assert bool(steps) == (checkpoint is not kept[-1])
        assert resumed.expert.sha256 == whole.expert.sha256
        assert (resumed.curve, resumed.losses) == (whole.curve, whole.losses)
        assert resumed.best_step == whole.best_step
    with pytest.raises(InputError, match="belongs to another training"):
        train_lora([problem], bank, replace(SETTINGS, seed=1), resume=kept[0])


def test_all_layers_can_be_trained(bank: AdapterBank, problem: TrainingProblem) -> None:
    """Beginning at the first layer, whatever the split of the bank."""
    settings = replace(SETTINGS, steps=10, layers="all", targets=("value", "output"))
    trained = train_lora([problem], bank, settings)
    assert trained.expert.layers == tuple(range(LAYERS))
    assert {slot.split(".", 3)[3] for slot in trained.expert.slots} == {
        "attention.self.value",
        "output.dense",
    }
    bank.add("candidate", trained.expert)
    assert bank.cost("candidate") == 1
    bank.remove("candidate")


def test_an_anchored_expert_moves_other_texts_less(
    bank: AdapterBank, problem: TrainingProblem
) -> None:
    """Those that it was shown and those that it was not, and it helps its own queries as before."""
    others = [f"{word} {other}" for word in WORDS for other in reversed(WORDS)]
    shown = replace(problem, anchors=others[::2])
    states = bank.start(others)
    moved, gains = [], []
    for anchor in (0.0, 1.0):
        trained = train_lora([shown], bank, replace(SETTINGS, anchor=anchor))
        bank.add("candidate", trained.expert)
        vectors = bank.finish(states, range(len(states.ids)), ["candidate"] * len(states.ids))
        bank.remove("candidate")
        moved.append(float(np.square(vectors - states.base).sum(1).mean()))
        gains.append(float((trained.expert_scores - trained.base_scores).mean()))
    assert moved[1] < 0.5 * moved[0]
    assert gains[1] > 0.15


def test_soft_labels_and_the_whole_corpus(bank: AdapterBank, problem: TrainingProblem) -> None:
    """A teacher that prefers the relevant documents helps as the judgments do."""

    class Teacher:
        def __call__(self, queries: np.ndarray, chunks: np.ndarray) -> np.ndarray:
            wanted = [problem.positives[query] for query in queries.tolist()]
            return np.array([[float(c in row) for c in chunks.tolist()] for row in wanted])

    settings = replace(SETTINGS, negatives="corpus", distillation=1.0, margin=None)
    trained = train_lora([replace(problem, teacher=Teacher())], bank, settings)
    assert trained.expert_scores.mean() > trained.base_scores.mean() + 0.1


def test_without_torch_the_remedy_is_named(
    bank: AdapterBank, problem: TrainingProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra that brings it."""
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in ("pgembed.lora_model", "pgembed.torch_bert"):
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(TrainingError, match=r"needs torch[\s\S]*pgembed-router\[train,lora\]"):
        train_lora([problem], bank, SETTINGS)


def test_what_cannot_be_trained_is_refused(
    bank: AdapterBank, problem: TrainingProblem, tmp_path: Path
) -> None:
    """No problem, no texts, no slots, a learning rate that breaks the loss."""
    with pytest.raises(TrainingError, match="no problem to train on"):
        train_lora([], bank, SETTINGS)
    with pytest.raises(InputError, match="'next topic' has no texts"):
        train_lora([replace(problem, texts=(), dev_texts=())], bank, SETTINGS)
    prepare(bank.encoder, folder=tmp_path)
    narrow = AdapterBank.open(bank.encoder, tmp_path)
    with pytest.raises(InputError, match=r"no slots for output\.dense[\s\S]*--target"):
        train_lora([problem], narrow, replace(SETTINGS, targets=("query", "output")))
    for setting, value in (
        ("rank", 0),
        ("alpha", 0.0),
        ("dropout", 1.0),
        ("anchor", -1.0),
        ("anchor", np.nan),
        ("targets", ("pooler",)),
        ("layers", "lower"),
        ("negatives", "none"),
    ):
        with pytest.raises(InputError):
            replace(SETTINGS, **{setting: value})

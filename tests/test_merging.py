"""Merging of experts: task vectors, the grid, the gate, and the command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pgembed.database import Connection
from pgembed.encoders.bank import AdapterBank
from pgembed.encoders.preparing import prepare
from pgembed.errors import FingerprintError, InputError, NotFoundError, TrainingError
from pgembed.experts import list_experts, load_expert, load_experts, register_expert
from pgembed.judgments import JudgedCollection, JudgedQueries
from pgembed.linear_expert import LinearExpert
from pgembed.lora_expert import LoraExpert
from pgembed.merge_search import Method, Source, merge
from pgembed.merging import merge_experts
from pgembed.metrics import Corpus, ndcg_of
from pgembed.registry import open_registered, register_encoder, registered_encoder
from pgembed.task_vectors import factored, simplex, slerp_weights, soup, ties
from tests.encoders.tiny_bert import LAYERS, make_tiny_bert
from tests.encoders.tiny_bert import random_expert as random_lora_of_bert

DIMENSIONS, HALF = 32, 16


def random_expert(seed: int, rank: int = 4) -> LinearExpert:
    """An expert of no use."""
    random = np.random.default_rng(seed)
    return LinearExpert(
        random.standard_normal((DIMENSIONS, rank)), random.standard_normal((rank, DIMENSIONS))
    )


def delta(expert: LinearExpert) -> np.ndarray:
    """What it adds to the identity."""
    return expert.A.astype(np.float64) @ expert.B


SLOTS = ("encoder.layer.0.attention.self.query", "encoder.layer.1.output.dense")


def random_lora(seed: int, slots: Sequence[str] = SLOTS, rank: int = 3) -> LoraExpert:
    """A LoRA expert of no use, with a scale that is not 1."""
    random = np.random.default_rng(seed)
    A = {slot: random.standard_normal((6, rank)) for slot in slots}
    B = {slot: random.standard_normal((rank, 5)) for slot in slots}
    return LoraExpert(A, B, alpha=2.0 * rank)


def sources(*experts: LinearExpert) -> list[Source]:
    """Experts a, b, c, ... of one model."""
    return [
        Source(name, "linear", "ab" * 32, expert.sha256, name, expert)
        for name, expert in zip("abcdefgh", experts, strict=False)
    ]


# Task vectors.


def test_ties_by_hand() -> None:
    """Trim to two of four entries, elect the sign of the sum, mean of those that agree."""
    first = {"": np.array([[4.0, -3.0, 1.0, 0.5]])}
    second = {"": np.array([[2.0, 5.0, -0.5, -1.0]])}
    merged = ties([first, second], kept=0.5)[""]
    assert merged.tolist() == [[3.0, 5.0, 0.0, 0.0]]
    assert ties([first, second], kept=0.5, scale=0.5)[""].tolist() == [[1.5, 2.5, 0.0, 0.0]]
    opposite = {"": -first[""]}
    assert not ties([first, opposite], kept=0.5)[""].any()


def test_ties_trims_over_all_slots_of_an_expert() -> None:
    """Not in each: a slot of small entries goes altogether."""
    task = {"a": np.full((1, 4), 9.0), "b": np.full((1, 4), 0.1)}
    merged = ties([task, {"a": np.full((1, 4), 9.0)}], kept=0.5)
    assert merged["a"].tolist() == [[9.0] * 4]
    assert not merged["b"].any()


def test_slerp_has_its_ends_and_its_middle() -> None:
    """The ends are the task vectors themselves; between equal lengths the length stays."""
    x, y = {"": np.array([[2.0, 0.0]])}, {"": np.array([[0.0, 2.0]])}
    assert slerp_weights(x, y, 0.0) == pytest.approx((1, 0))
    assert slerp_weights(x, y, 1.0) == pytest.approx((0, 1))
    half = soup([x, y], slerp_weights(x, y, 0.5))[""]
    assert np.linalg.norm(half) == pytest.approx(2)
    assert half[0, 0] == pytest.approx(half[0, 1])


@pytest.mark.parametrize("factor", [1.0, 3.0, 0.0, -1.0])
def test_slerp_of_parallel_vectors_is_linear(factor: float) -> None:
    """Where the angle says nothing, or one of the vectors is zero."""
    x = {"": np.array([[1.0, 2.0]])}
    assert slerp_weights(x, {"": factor * x[""]}, 0.3) == pytest.approx((0.7, 0.3))


def test_factors_are_the_nearest_and_the_loss_is_told() -> None:
    """Eckart and Young: the energy that is lost is that of the smaller singular values."""
    task = {"a": np.diag([4.0, 2.0, 1.0]), "b": np.diag([3.0, 0.0])}
    factors, discarded = factored(task, 1)
    assert factors["a"][0] @ factors["a"][1] == pytest.approx(np.diag([4, 0, 0]), abs=1e-6)
    assert discarded == pytest.approx((4 + 1) / (16 + 4 + 1 + 9))
    whole, nothing = factored(task, 3)
    assert whole["a"][0] @ whole["a"][1] == pytest.approx(task["a"], abs=1e-6)
    assert whole["b"][0].shape == (2, 3)
    assert nothing == pytest.approx(0)
    assert factored({"": np.zeros((2, 2))}, 1)[1] == 0


def test_what_does_not_fit_together_is_refused() -> None:
    """Two shapes of one slot, or another number of weights."""
    with pytest.raises(InputError, match="shapes"):
        soup([{"": np.zeros((2, 2))}, {"": np.zeros((3, 2))}], [1, 1])
    with pytest.raises(InputError, match="1 weights"):
        soup([{"": np.zeros((2, 2))}] * 2, [1])
    with pytest.raises(InputError, match="rank is 0"):
        factored({"": np.zeros((2, 2))}, 0)


def test_the_simplex_is_whole() -> None:
    """Every weight is a multiple of the step, and each set of them sums to 1."""
    grid = list(simplex(3, 5))
    assert len(set(grid)) == 21
    assert all(sum(weights) == pytest.approx(1) for weights in grid)


# The grid.


@pytest.mark.parametrize("method", ["soup", "slerp"])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_identical_experts_merge_to_themselves(method: Method, count: int) -> None:
    """Whatever the weights."""
    expert = random_expert(0)
    merged = merge(sources(*[expert] * count), lambda _: 0.0, method=method)
    assert delta(merged.expert) == pytest.approx(delta(expert), abs=1e-5)
    assert sum(merged.weights) == pytest.approx(1)
    assert merged.discarded == pytest.approx(0, abs=1e-9)


def test_merging_deltas_is_merging_full_weights() -> None:
    """(I + dW) averaged is I + the merged dW, once the rank holds it; the factors' mean is not."""
    experts = [random_expert(seed) for seed in (1, 2)]
    merged = merge(sources(*experts), lambda _: 0.0, rank=8)
    full = sum(0.5 * (np.eye(DIMENSIONS) + delta(expert)) for expert in experts)
    assert merged.weights == (0.5, 0.5)
    assert np.eye(DIMENSIONS) + delta(merged.expert) == pytest.approx(full, abs=1e-5)
    apart = (experts[0].A + experts[1].A) @ (experts[0].B + experts[1].B) / 4
    assert np.abs(apart - delta(merged.expert)).max() > 0.1


def test_lora_experts_are_merged_slot_by_slot() -> None:
    """Each delta W with its scale; a slot that one of them lacks is halved, as zeros would."""
    experts = [random_lora(1), random_lora(2, SLOTS[:1])]
    both = [
        Source(str(n), "lora", "ab" * 32, str(n), None, expert) for n, expert in enumerate(experts)
    ]
    merged = merge(both, lambda _: 0.0, rank=5).expert
    first, second = SLOTS
    mean = 0.5 * (experts[0].delta(first) + experts[1].delta(first))
    assert merged.delta(first) == pytest.approx(mean, abs=1e-5)
    assert merged.delta(second) == pytest.approx(0.5 * experts[0].delta(second), abs=1e-5)
    assert merged.rank == 5
    same = merge([both[0], replace(both[0], name="twin")], lambda _: 0.0, method="slerp").expert
    assert same.delta(second) == pytest.approx(experts[0].delta(second), abs=1e-5)
    assert same.rank == experts[0].rank


@pytest.mark.parametrize(("method", "candidates"), [("soup", 11), ("slerp", 11), ("ties", 11)])
def test_the_probe_chooses(method: Method, candidates: int) -> None:
    """Of eleven candidates the one that it likes best, and each is reported with its score."""
    first, second = random_expert(1), random_expert(2)
    seen: list[tuple[int, int]] = []

    def near_second(expert: LinearExpert) -> float:
        return -float(np.linalg.norm(delta(expert) - delta(second)))

    merged = merge(
        sources(first, second),
        near_second,
        method=method,
        rank=DIMENSIONS,
        on_candidate=lambda done, of: seen.append((done, of)),
    )
    assert seen == [(n, candidates) for n in range(1, candidates + 1)]
    assert max(score for *_, score in merged.grid) == near_second(merged.expert)
    if method != "ties":
        assert merged.weights == pytest.approx((0, 1))
        assert delta(merged.expert) == pytest.approx(delta(second), abs=1e-5)


@pytest.mark.parametrize(("count", "method", "candidates"), [(3, "soup", 21), (4, "soup", 33), (3, "slerp", 22), (5, "ties", 11)])  # fmt: skip
def test_many_are_merged_pair_by_pair(count: int, method: Method, candidates: int) -> None:
    """Three at once by soup; the weights reported are those of the task vectors."""
    experts = [random_expert(seed) for seed in range(count)]
    merged = merge(sources(*experts), lambda _: 0.0, method=method, rank=DIMENSIONS)
    assert len(merged.grid) == candidates
    if method != "ties":
        summed = sum(w * delta(e) for w, e in zip(merged.weights, experts, strict=True))
        assert delta(merged.expert) == pytest.approx(summed, abs=1e-4)


def test_another_base_model_is_refused() -> None:
    """By its fingerprint, both experts named."""
    first, second = sources(random_expert(1), random_expert(2))
    with pytest.raises(FingerprintError, match=r"'a' .* 'b'"):
        merge([first, replace(second, fingerprint="cd" * 32)], lambda _: 0.0)


def test_sources_that_cannot_be_merged_are_refused() -> None:
    """One alone, one twice, another kind, an unknown method."""
    first, second = sources(random_expert(1), random_expert(2))
    for wrong in ([first], [first, first], [], [first, replace(second, kind="lora")]):
        with pytest.raises(InputError):
            merge(wrong, lambda _: 0.0)
    with pytest.raises(InputError, match="'average'"):
        merge([first, second], lambda _: 0.0, method="average")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="rank is 0"):
        merge([first, second], lambda _: 0.0, rank=0)


# In the database.


def shift(dimensions: Sequence[int], strength: float = 5.0, by: int = HALF) -> LinearExpert:
    """An expert that turns some axes of a query to others."""
    A, B = np.zeros((DIMENSIONS, HALF)), np.zeros((HALF, DIMENSIONS))
    for number, axis in enumerate(dimensions):
        A[axis, number], B[number, axis + by] = strength, 1.0
    return LinearExpert(A, B)


def axes(numbers: Sequence[int], answers: int) -> JudgedQueries:
    """Queries along axes, answered by the document that lies so many axes further."""
    return JudgedQueries(
        tuple(f"axis {n}" for n in numbers),
        np.eye(DIMENSIONS, dtype=np.float32)[list(numbers)],
        tuple({n + answers: 1} for n in numbers),
    )


def judged_axes(**domains: JudgedQueries) -> JudgedCollection:
    """A collection with a document on each axis, and dev queries."""
    return JudgedCollection(
        "axes",
        "tiny",
        Corpus(np.eye(DIMENSIONS, dtype=np.float32), np.arange(DIMENSIONS)),
        tuple(str(n) for n in range(DIMENSIONS)),
        {(str(n), 0): n for n in range(DIMENSIONS)},
        {(domain, "dev"): queries for domain, queries in domains.items()},
    )


def register(connection: Connection, **experts: LinearExpert) -> None:
    """Experts whose domains have their names."""
    encoder = registered_encoder(connection, "tiny")
    for name, expert in experts.items():
        register_expert(connection, encoder, name, expert, domain=name)


SEPARATE = judged_axes(low=axes(range(8), HALF), high=axes(range(8, HALF), HALF))
"""Two domains whose experts do not get in each other's way."""

CONTRARY = judged_axes(low=axes(range(8), HALF), high=axes(range(8), 0))
"""Two domains that want contrary things of the same queries."""


@pytest.mark.parametrize("method", ["soup", "slerp"])
def test_a_merge_that_loses_nothing_serves(shared: Connection, method: Method) -> None:
    """It does in each domain what the best of its sources does, and its row tells the story."""
    register(shared, low=shift(range(8)), high=shift(range(8, HALF)))
    merged = merge_experts(shared, "both", ["low", "high"], [SEPARATE], method=method)
    assert merged.accepted
    serving = load_experts(shared, "tiny")
    assert set(serving) == {"low", "high", "both"}
    stored = {expert.name: expert for expert in list_experts(shared)}["both"]
    metrics = stored.metrics
    assert (stored.kind, stored.state, stored.domain) == ("linear", "active", None)
    assert {each["expert"] for each in metrics["merged_from"]} == {"low", "high"}
    assert {each["sha256"] for each in metrics["merged_from"]} == {
        serving["low"].sha256,
        serving["high"].sha256,
    }
    assert metrics["method"] == method
    assert metrics["base_fingerprint"] == registered_encoder(shared, "tiny").fingerprint
    assert metrics["discarded_energy"] == pytest.approx(0, abs=1e-6)
    assert len(metrics["probe"]) == 11
    for domain in ("low", "high"):
        figures = metrics["dev_ndcg_at_10"][domain]
        assert figures["expert"] == figures["sources"][domain] == 1
        assert figures["base"] < 1
        assert figures["best_source"] == domain


def test_a_merge_that_loses_is_rejected_and_says_what(shared: Connection) -> None:
    """Its row stays, with the domain that lost and by how much; no query is routed to it."""
    register(shared, low=shift(range(8)), high=shift(range(8), by=0))
    merged = merge_experts(shared, "both", ["low", "high"], [CONTRARY])
    assert not merged.accepted
    assert "low -0." in merged.reason or "high -0." in merged.reason
    assert "both" not in load_experts(shared, "tiny")
    assert merged.expert.metrics["gate"]["reason"] == merged.reason


def test_sources_worse_than_base_make_nothing_that_serves(shared: Connection) -> None:
    """No loss against the best source is not enough: base is asked, too."""
    bad = judged_axes(low=axes(range(8), 0), high=axes(range(8, HALF), 0))
    register(shared, low=shift(range(HALF)), high=shift(range(HALF)))
    merged = merge_experts(shared, "both", ["low", "high"], [bad])
    assert not merged.accepted
    for domain, figures in merged.expert.metrics["dev_ndcg_at_10"].items():
        assert figures["over_best_source"] == 0
        assert f"{domain} {figures['gain']:+.3f} against base" in merged.reason


def test_a_merge_must_surely_be_better_than_base(shared: Connection) -> None:
    """As every expert that is trained; the reason has the interval."""
    helped = axes([0], HALF)
    unchanged = axes(range(1, 8), 0)
    mixed = JudgedQueries(
        helped.texts + unchanged.texts,
        np.concatenate([helped.vectors, unchanged.vectors]),
        helped.relevant + unchanged.relevant,
    )
    judged = judged_axes(low=mixed, high=axes(range(8, HALF), 0))
    register(shared, low=shift([0]), high=shift([0]))
    merged = merge_experts(shared, "both", ["low", "high"], [judged])
    gate = merged.expert.metrics["gate"]
    assert not merged.accepted
    assert gate["gain"] > 0
    assert gate["interval"][0] == 0
    assert "not surely better than base" in merged.reason


def test_a_rank_too_low_is_told(shared: Connection) -> None:
    """The energy that does not fit is reported, and what is scored is what is stored."""
    register(shared, low=shift(range(8)), high=shift(range(8, HALF)))
    merged = merge_experts(shared, "both", ["low", "high"], [SEPARATE], rank=4)
    assert merged.expert.metrics["discarded_energy"] > 0.4
    assert merged.expert.metrics["rank"] == 4
    assert not merged.accepted


def test_a_general_expert_is_judged_on_every_domain(shared: Connection) -> None:
    """It has no domain of its own."""
    register(shared, low=shift(range(8)))
    general = shift(range(8, HALF))
    register_expert(shared, registered_encoder(shared, "tiny"), "general", general)
    merged = merge_experts(shared, "both", ["low", "general"], [SEPARATE])
    assert set(merged.expert.metrics["dev_ndcg_at_10"]) == {"low", "high"}


def test_vectors_can_come_from_elsewhere(shared: Connection) -> None:
    """Experts that work within their encoder are scored by the caller's function."""
    register(shared, low=shift(range(8)), high=shift(range(8, HALF)))
    calls = []

    def apply(expert: LinearExpert, queries: JudgedQueries) -> np.ndarray:
        calls.append(queries.texts)
        return expert.apply(queries.vectors)

    merge_experts(shared, "both", ["low", "high"], [SEPARATE], apply=apply)
    assert len(calls) == 2 * (11 + 1 + 2)


def test_what_cannot_be_merged_is_refused(shared: Connection) -> None:
    """Unknown experts and base, a domain without dev queries, a name that is taken by a source."""
    register(shared, low=shift(range(8)), high=shift(range(8, HALF)), third=shift(range(2)))
    for names in (["low", "nope"], ["low", "base"]):
        with pytest.raises(NotFoundError, match="high, low, third"):
            merge_experts(shared, "both", names, [SEPARATE])
    with pytest.raises(TrainingError, match="'third'"):
        merge_experts(shared, "both", ["low", "third"], [SEPARATE])
    for name in ("low", "base", ""):
        with pytest.raises(InputError):
            merge_experts(shared, name, ["low", "high"], [SEPARATE])


def test_a_damaged_source_is_refused(shared: Connection) -> None:
    """Its artifact is checked as it is when it serves."""
    register(shared, low=shift(range(8)), high=shift(range(8, HALF)))
    shared.execute("update pgembed.expert set artifact = '\\x00' where name = 'high'")
    with pytest.raises(InputError, match="damaged"):
        merge_experts(shared, "both", ["low", "high"], [SEPARATE])


def test_lora_experts_are_merged_through_their_encoder(shared: Connection, tmp_path: Path) -> None:
    """The probe runs the model with the candidate in it; what is stored is LoRA and serves."""
    register_encoder(shared, str(make_tiny_bert(tmp_path / "bert")), name="bert")
    encoder = open_registered(shared, "bert")
    prepare(encoder)
    upper = range(2, LAYERS)
    for name, seed in (("one", 1), ("two", 2)):
        lora = random_lora_of_bert(upper, seed=seed)
        register_expert(shared, encoder.spec, name, lora, domain=name)
    texts = tuple(f"apple number {n}" for n in range(6))
    base = encoder.encode_query(list(texts))
    judged = JudgedCollection(
        "fruit",
        "bert",
        Corpus(base, np.arange(len(texts))),
        tuple(map(str, range(len(texts)))),
        {(str(n), 0): n for n in range(len(texts))},
        {
            (name, "dev"): JudgedQueries(texts, base, tuple({n: 1} for n in range(len(texts))))
            for name in ("one", "two")
        },
    )
    merged = merge_experts(shared, "both", ["one", "two"], [judged], rank=4)
    metrics = merged.expert.metrics
    assert (merged.expert.kind, metrics["rank"], len(metrics["probe"])) == ("lora", 4, 11)
    stored = load_expert(shared, "bert", "both")
    weights = [each["weight"] for each in metrics["merged_from"]]
    experts = [load_expert(shared, "bert", name) for name in ("one", "two")]
    for slot in stored.slots:
        expected = sum(w * e.delta(slot) for w, e in zip(weights, experts, strict=True))
        assert stored.delta(slot) == pytest.approx(expected, abs=1e-5)
    bank = AdapterBank.open(encoder)
    bank.add("both", stored)
    vectors = bank.finish(bank.start(texts), range(len(texts)), ["both"] * len(texts))
    reached = ndcg_of(vectors, judged.corpus, judged.split("one", "dev").relevant).mean()
    assert metrics["dev_ndcg_at_10"]["one"]["expert"] == pytest.approx(reached, abs=1e-6)

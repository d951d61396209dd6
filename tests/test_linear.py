"""Linear experts: their bytes, their gradient, their training, and the gate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgembed.contrastive import Batches, expand
from pgembed.descent import info_nce, initial_weights, movement
from pgembed.errors import InputError, TrainingError
from pgembed.linear import (
    LinearExpert,
    LinearSettings,
    Trained,
    TrainingProblem,
    TrainingStep,
    gate,
    train_linear,
    unit,
)
from pgembed.metrics import Corpus, ndcg_of, top_documents
from pgembed.optimizer import Moments, one_cycle

DIMENSIONS = 24
QUICK = LinearSettings(rank=12, steps=150, evaluate_every=30, random=64)


def expert_of(seed: int, *, rank: int = 5, scale: float = 0.3) -> LinearExpert:
    """An expert with random weights."""
    generator = np.random.default_rng(seed)
    A = generator.normal(0, scale, (DIMENSIONS, rank))
    return LinearExpert(A.astype(np.float32), generator.normal(0, scale, (rank, DIMENSIONS)))


def unit_vectors(n: int, seed: int) -> np.ndarray:
    """Random unit vectors, float32 (n, DIMENSIONS)."""
    generator = np.random.default_rng(seed)
    return unit(generator.standard_normal((n, DIMENSIONS)).astype(np.float32))


def problem(seed: int, *, planted: bool = True, train: int = 300, dev: int = 80) -> TrainingProblem:
    """Queries that a linear map turns into their documents, or whose relevance is noise.

    Every document has one to three chunks; the query is made from the first.
    """
    generator = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(400), generator.integers(1, 4, size=400))
    corpus = Corpus(unit_vectors(len(numbers), seed + 1), numbers)
    shift = generator.standard_normal((DIMENSIONS, 6)) @ generator.standard_normal((6, DIMENSIONS))
    documents = generator.permutation(corpus.size)[: train + dev]
    first = corpus.vectors[corpus.starts[documents]]
    queries = unit((first @ (np.eye(DIMENSIONS) + shift / 6)).astype(np.float32))
    if not planted:
        documents = generator.permutation(documents)
    relevant = [{int(document): 1} for document in documents]
    nearest = top_documents(queries[:train], corpus, 12)
    mined = [
        corpus.starts[row[row != document]]
        for row, document in zip(nearest, documents[:train], strict=True)
    ]
    return TrainingProblem(
        queries[:train], relevant[:train], mined, corpus, queries[train:], relevant[train:]
    )


def test_apply_is_the_unit_of_the_residual() -> None:
    """An expert maps z to unit(z + (z A) B), one row or many."""
    expert, Z = expert_of(0), unit_vectors(7, 1)
    expected = Z + Z @ expert.A @ expert.B
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(expert.apply(Z), expected, atol=1e-6)
    np.testing.assert_allclose(expert.apply(Z[3]), expected[3], atol=1e-6)
    assert expert.apply(Z).dtype == np.float32


@given(seed=st.integers(0, 1000), rank=st.integers(1, 9))
def test_bytes_bring_back_the_same_expert(seed: int, rank: int) -> None:
    """Writing and reading keeps every weight and the hash."""
    expert = expert_of(seed, rank=rank)
    data = expert.to_bytes()
    back = LinearExpert.from_bytes(data, DIMENSIONS)
    assert len(data) == 20 + 8 * DIMENSIONS * rank
    assert back.sha256 == expert.sha256
    np.testing.assert_array_equal(back.A, expert.A)
    np.testing.assert_array_equal(back.B, expert.B)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: b"X" + data[1:],
        lambda data: data[:8] + b"\2" + data[9:],
        lambda data: data[:16] + b"\0\0\0\0" + data[20:],
        lambda data: data[:-4] + np.float32(np.nan).tobytes(),
    ],
)
def test_spoiled_bytes_are_refused(spoil: object) -> None:
    """Wrong length, magic, version, rank or weights raise InputError."""
    assert callable(spoil)
    with pytest.raises(InputError):
        LinearExpert.from_bytes(spoil(expert_of(0).to_bytes()), DIMENSIONS)


def test_an_expert_of_another_encoder_is_refused() -> None:
    """The dimensions must be the encoder's."""
    with pytest.raises(InputError, match="its encoder has 384"):
        LinearExpert.from_bytes(expert_of(0).to_bytes(), 384)


def test_weights_that_do_not_fit_are_refused() -> None:
    """A and B must be transposed shapes of each other."""
    with pytest.raises(InputError, match="needs A"):
        LinearExpert(np.ones((4, 2), np.float32), np.ones((3, 4), np.float32))


def test_gradient_equals_finite_differences() -> None:
    """The loss's gradient by A and B is what small changes of them show, masks included."""
    generator = np.random.default_rng(0)
    A, B = generator.normal(0, 0.4, (6, 3)), generator.normal(0, 0.4, (3, 6))
    queries, candidates = (unit(generator.standard_normal((n, 6))) for n in (5, 11))
    targets = np.asarray([0, 3, 3, 10, 7])
    masked = generator.random((5, 11)) < 0.3
    masked[np.arange(5), targets] = False

    def loss(A: np.ndarray, B: np.ndarray) -> float:
        return info_nce((A, B), queries, candidates, targets, masked, temperature=0.1)[0]

    def moved(A: np.ndarray, B: np.ndarray) -> float:
        return movement((A, B), candidates)[0]

    _, slopes = info_nce((A, B), queries, candidates, targets, masked, temperature=0.1)
    _, pull = movement((A, B), candidates)
    for number, matrix in enumerate((A, B)):
        for function, found in ((loss, slopes), (moved, pull)):
            numeric = np.zeros_like(matrix)
            for place in np.ndindex(matrix.shape):
                change = np.zeros_like(matrix)
                change[place] = 1e-6
                up, down = [[A, B] for _ in range(2)]
                up[number], down[number] = matrix + change, matrix - change
                numeric[place] = (function(*up) - function(*down)) / 2e-6
            np.testing.assert_allclose(found[number], numeric, atol=1e-6)


def test_an_anchored_expert_moves_other_vectors_less() -> None:
    """Anchored more, it moves them less; a negative weight is refused."""
    planted = problem(0)
    rest = planted.corpus.vectors
    free, anchored = (
        train_linear([planted], replace(QUICK, anchor=anchor)).expert for anchor in (0.0, 1.0)
    )
    far, near = (movement((each.A, each.B), rest)[0] for each in (free, anchored))
    assert near < 0.9 * far
    with pytest.raises(InputError, match="anchor is 0 or more, not -1"):
        replace(QUICK, anchor=-1)


def test_masked_candidates_have_no_part_in_the_loss() -> None:
    """Masking a candidate equals leaving it out."""
    queries, candidates = unit_vectors(3, 0), unit_vectors(6, 1)
    weights = (expert_of(2).A, expert_of(2).B)
    targets = np.asarray([0, 1, 2])
    masked = np.zeros((3, 6), dtype=bool)
    masked[:, 4:] = True
    with_mask = info_nce(weights, queries, candidates, targets, masked, temperature=0.05)
    without = info_nce(weights, queries, candidates[:4], targets, masked[:, :4], temperature=0.05)
    assert with_mask[0] == pytest.approx(without[0], rel=1e-5)
    np.testing.assert_allclose(with_mask[1][0], without[1][0], atol=1e-5)


def test_one_cycle_rises_for_three_tenths_and_ends_near_zero() -> None:
    """The schedule starts at 1/25 of the peak, peaks after 30 % and ends at 1/250,000."""
    rates = [one_cycle(step, 1000, 2.0) for step in range(1000)]
    assert rates[0] == pytest.approx(2 / 25)
    assert max(rates) == rates[299] == pytest.approx(2)
    assert rates[-1] == pytest.approx(2 / 250_000)
    assert np.all(np.diff(rates[299:]) <= 0)


def test_adamw_takes_steps_of_the_learning_rate() -> None:
    """The first step moves each weight by the learning rate against its gradient, and decays."""
    matrix = np.asarray([[1.0, -2.0]], dtype=np.float32)
    moments = Moments.zero(matrix).updated(np.asarray([[0.5, -3.0]], dtype=np.float32))
    moved = moments.stepped(matrix, rate=0.01, decay=0.1)
    np.testing.assert_allclose(moved, matrix * (1 - 0.001) - [[0.01, -0.01]], rtol=1e-5)


@given(ranges=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), min_size=1, max_size=8))
def test_ranges_are_written_out_in_order(ranges: list[tuple[int, int]]) -> None:
    """Expanding half-open ranges lists every integer with its range."""
    starts = np.asarray([start for start, _ in ranges])
    ends = starts + [length for _, length in ranges]
    owners, values = expand(starts, ends)
    expected = [
        (o, v) for o, (s, e) in enumerate(zip(starts, ends, strict=True)) for v in range(s, e)
    ]
    assert list(zip(owners.tolist(), values.tolist(), strict=True)) == expected


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), margin=st.sampled_from([None, 0.95]))
def test_batches_mask_what_is_relevant_and_nothing_else(seed: int, margin: float | None) -> None:
    """The target is a relevant chunk; other relevant chunks, and close mined ones, are masked."""
    hard = problem(seed % 7, train=40, dev=1)
    batch = Batches(hard, size=8, mined=3, random=50, margin=margin).draw(
        np.random.default_rng(seed)
    )
    corpus = hard.corpus
    row_of = {vector.tobytes(): row for row, vector in enumerate(hard.queries)}
    chunk_of = {vector.tobytes(): row for row, vector in enumerate(corpus.vectors)}
    chunks = [chunk_of[vector.tobytes()] for vector in batch.candidates]
    rows = [row_of[vector.tobytes()] for vector in batch.queries]
    assert len(set(rows)) == 8
    assert len(set(chunks)) == len(chunks)
    mined = {int(chunk) for row in rows for chunk in hard.mined[row]}
    for number, row in enumerate(rows):
        target = int(batch.targets[number])
        relevant = {d for d, grade in hard.positives[row].items() if grade > 0}
        assert corpus.documents[chunks[target]] in relevant
        similarity = batch.candidates @ batch.queries[number]
        for column, chunk in enumerate(chunks):
            known = corpus.documents[chunk] in relevant
            close = margin is not None and similarity[column] > margin * similarity[target]
            if column == target:
                assert not batch.masked[number, column]
            elif known:
                assert batch.masked[number, column]
            elif batch.masked[number, column]:
                assert close
                assert chunk in mined


def test_the_target_is_the_best_chunk_of_the_document() -> None:
    """Of a relevant document's chunks the one most similar to the query is the target."""
    corpus = Corpus(np.eye(4, dtype=np.float32), np.asarray([0, 0, 0, 1]))
    query = unit(np.asarray([[0.1, 0.9, 0.2, 0.5]], dtype=np.float32))
    one = TrainingProblem(query, [{0: 2}], [[3]], corpus, query, [{0: 2}])
    batch = Batches(one, size=4, mined=1, random=20, margin=None).draw(np.random.default_rng(0))
    assert batch.candidates[batch.targets[0]].tolist() == [0, 1, 0, 0]


def test_positives_are_drawn_in_proportion_to_their_grade() -> None:
    """A document of grade 3 is the target three times as often as one of grade 1."""
    corpus = Corpus(np.eye(4, dtype=np.float32), np.arange(4))
    query = unit(np.ones((1, 4), dtype=np.float32))
    one = TrainingProblem(query, [{1: 1, 2: 3, 3: 0}], [[0]], corpus, query, [{1: 1}])
    batches = Batches(one, size=1, mined=1, random=9, margin=None)
    generator = np.random.default_rng(0)
    counts = np.zeros(4)
    for _ in range(800):
        batch = batches.draw(generator)
        counts += batch.candidates[batch.targets[0]]
    assert counts[[0, 3]].tolist() == [0, 0]
    assert counts[2] / counts[1] == pytest.approx(3, rel=0.25)


def test_training_recovers_a_planted_map() -> None:
    """Where a linear map leads from query to document, dev nDCG rises and the gate accepts."""
    steps: list[TrainingStep] = []
    trained = train_linear([problem(0)], QUICK, on_step=steps.append)
    assert trained.expert_scores.mean() > trained.base_scores.mean() + 0.1
    assert trained.curve[0] == (0, pytest.approx(trained.base_scores.mean()))
    assert dict(trained.curve)[trained.best_step] == pytest.approx(trained.expert_scores.mean())
    assert [step.step for step in steps] == list(range(1, trained.steps + 1))
    assert [s.dev_ndcg for s in steps if s.dev_ndcg is not None] == [
        v for _, v in trained.curve[1:]
    ]
    decision = gate(trained)
    assert decision.accepted
    assert decision.interval.low > 0


def test_equal_seeds_train_equal_experts() -> None:
    """Training is repeatable."""
    few = replace(QUICK, steps=20, evaluate_every=10)
    first, second = (train_linear([problem(1)], few) for _ in range(2))
    assert first.expert.sha256 == second.expert.sha256


def test_a_general_expert_learns_several_problems() -> None:
    """Several problems train one expert, longer, and dev counts each alike."""
    problems = [problem(2), replace(problem(2), dev_relevant=problem(3).dev_relevant)]
    trained = train_linear(problems, replace(QUICK, steps=40, patience=99))
    assert trained.steps == round(40 * np.sqrt(2))
    assert trained.strata.tolist() == [0] * 80 + [1] * 80
    halves = [trained.expert_scores[trained.strata == number].mean() for number in (0, 1)]
    assert dict(trained.curve)[trained.best_step] == pytest.approx(np.mean(halves))


@pytest.mark.parametrize("seed", range(5))
def test_the_gate_refuses_what_was_trained_on_noise(seed: int) -> None:
    """On queries that did not choose the step; the reason gives the interval."""
    noise = problem(seed, planted=False, train=200, dev=160)
    queries, relevant = noise.dev_queries, noise.dev_relevant
    chooser = replace(noise, dev_queries=queries[:80], dev_relevant=relevant[:80])
    trained = train_linear([chooser], QUICK)
    base, reached = (
        ndcg_of(vectors, noise.corpus, relevant[80:])
        for vectors in (queries[80:], trained.expert.apply(queries[80:]))
    )
    decision = gate(replace(trained, base_scores=base, expert_scores=reached))
    assert not decision.accepted
    assert "not surely better than the base" in decision.reason


def test_training_stops_when_dev_no_longer_gains() -> None:
    """Patience ends a run, and the base is kept when nothing was better."""
    trained = train_linear([problem(4, planted=False)], replace(QUICK, steps=600, patience=2))
    assert trained.steps < 600
    assert trained.steps - trained.best_step == 60


def test_the_gate_wants_thirty_dev_queries() -> None:
    """A gain on few queries is not accepted, and the reason says so."""
    trained = Trained(
        expert=expert_of(0),
        curve=((0, 0.0), (1, 1.0)),
        best_step=1,
        base_scores=np.zeros(29),
        expert_scores=np.ones(29),
        strata=np.zeros(29, dtype=np.intp),
        steps=1,
        seconds=0.0,
    )
    decision = gate(trained)
    assert not decision.accepted
    assert "29 dev queries: fewer than 30" in decision.reason


def test_a_diverging_run_says_so() -> None:
    """A loss that is not finite raises TrainingError."""
    reckless = replace(QUICK, learning_rate=1e25)
    with np.errstate(all="ignore"), pytest.raises(TrainingError, match="the loss is"):
        train_linear([problem(0)], reckless)


def test_unusable_problems_are_refused() -> None:
    """Nothing to train on, unequal lengths and queries without a positive are refused."""
    with pytest.raises(TrainingError, match="no problem"):
        train_linear([])
    good = problem(0, train=5, dev=2)
    for change in (
        {"mined": good.mined[:3]},
        {"positives": [*good.positives[:4], {1: 0}]},
        {"positives": [*good.positives[:4], {400: 1}]},
        {"dev_relevant": []},
        {"queries": good.queries[:, :3]},
    ):
        with pytest.raises(InputError):
            replace(good, **change)


def test_settings_out_of_range_are_refused() -> None:
    """Counts are at least 1, temperature and learning rate above 0."""
    for change in ({"rank": 0}, {"mined": -1}, {"temperature": 0.0}):
        with pytest.raises(InputError):
            replace(QUICK, **change)


def test_initial_weights_are_the_base() -> None:
    """Before the first step an expert changes nothing."""
    A, B = initial_weights(DIMENSIONS, 4, np.random.default_rng(0))
    Z = unit_vectors(3, 0)
    np.testing.assert_allclose(LinearExpert(A, B).apply(Z), Z, atol=1e-6)

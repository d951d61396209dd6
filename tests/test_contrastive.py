"""What a query is trained against: sampled candidates or the corpus, masks, soft labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgembed.contrastive import Batches, TrainingProblem, mining_counts
from pgembed.descent import info_nce
from pgembed.distillation import ListedScores, soft_labels
from pgembed.errors import InputError
from pgembed.linear import gate, train_linear, unit
from pgembed.metrics import Corpus
from tests.test_linear import DIMENSIONS, QUICK, expert_of, problem, unit_vectors

NOTHING = np.zeros((3, 3))


def toy() -> TrainingProblem:
    """One query in the plane and five documents at 0.9, 0.89, 0.88, 0.5 and 0.1 of similarity.

    The relevant one is the third, of 0.88; the second is mined.
    """
    similarities = np.asarray([0.9, 0.89, 0.88, 0.5, 0.1])
    vectors = np.stack([similarities, np.sqrt(1 - similarities**2)], axis=1)
    corpus = Corpus(vectors.astype(np.float32), np.arange(5))
    query = np.asarray([[1, 0]], dtype=np.float32)
    return TrainingProblem(query, [{2: 1}], [[1]], corpus, query, [{2: 1}])


def test_loss_and_gradient_of_three_queries_are_those_computed_by_hand() -> None:
    """Three queries, three candidates, temperature 1; A is the identity and B zero.

    Logits are [1, .6, 0], [0, .8, .6], [0, 0, .8] with the targets on the diagonal, so the
    losses are ln(e + e^.6 + 1) - 1 = .71207, .81892 and .64115. The first query's shares are
    [.49063, .32888, .18049]: their pull, less what is along the query, is [0, .37140, .14439].
    """
    candidates = np.asarray([[1, 0, 0], [0.6, 0.8, 0], [0, 0.6, 0.8]])
    loss, (by_A, by_B) = info_nce(
        (np.eye(3), NOTHING),
        np.eye(3),
        candidates,
        np.arange(3),
        NOTHING.astype(bool),
        temperature=1.0,
    )
    assert loss == pytest.approx((0.71207 + 0.81892 + 0.64115) / 3, abs=1e-5)
    np.testing.assert_allclose(by_B[0], [0, 0.37140 / 3, 0.14439 / 3], atol=1e-5)
    np.testing.assert_array_equal(by_A, NOTHING)


def test_soft_labels_of_a_teacher_are_those_computed_by_hand() -> None:
    """Half the target's, half the teacher's softmax, which leaves out what is masked."""
    scores = np.asarray([[np.log(1.0), np.log(3.0), 7.0], [-np.inf] * 3])
    masked = np.asarray([[False, False, True], [False] * 3])
    labels = soft_labels(scores, np.asarray([0, 2]), masked, temperature=1.0, weight=0.5)
    np.testing.assert_allclose(labels, [[0.625, 0.375, 0], [0, 0, 1]], atol=1e-12)


def test_a_teacher_must_score_the_candidates() -> None:
    """Scores of another shape are refused."""
    with pytest.raises(InputError, match=r"shape \(1, 2\), not \(1, 3\)"):
        soft_labels(
            np.zeros((1, 2)), np.zeros(1, int), np.zeros((1, 3), bool), temperature=1, weight=1
        )


def test_gradient_by_soft_labels_equals_finite_differences() -> None:
    """With masks, and with a teacher that is silent on one query."""
    generator = np.random.default_rng(0)
    A, B = generator.normal(0, 0.4, (6, 3)), generator.normal(0, 0.4, (3, 6))
    queries, candidates = (unit(generator.standard_normal((n, 6))) for n in (5, 11))
    targets, masked = np.asarray([0, 3, 3, 10, 7]), generator.random((5, 11)) < 0.3
    masked[np.arange(5), targets] = False
    scores = generator.standard_normal((5, 11))
    scores[2] = -np.inf
    labels = soft_labels(scores, targets, masked, temperature=0.5, weight=0.7)
    arguments = (queries, candidates, targets, masked)
    _, slopes = info_nce((A, B), *arguments, temperature=0.1, labels=labels)
    for number, matrix in enumerate((A, B)):
        for place in np.ndindex(matrix.shape):
            sides = []
            for change in (1e-6, -1e-6):
                moved = [A.copy(), B.copy()]
                moved[number][place] += change
                sides.append(
                    info_nce((moved[0], moved[1]), *arguments, temperature=0.1, labels=labels)[0]
                )
            assert slopes[number][place] == pytest.approx(np.diff(sides)[0] / -2e-6, abs=1e-6)


def test_a_perfect_pupil_of_its_teacher_has_no_gradient() -> None:
    """Where the softmax is the teacher's already, nothing moves."""
    queries, candidates = unit_vectors(4, 0), unit_vectors(9, 1)
    expert, targets, masked = expert_of(2), np.arange(4), np.zeros((4, 9), dtype=bool)
    ours = expert.apply(queries) @ candidates.T
    labels = soft_labels(ours, targets, masked, temperature=0.05, weight=1.0)
    _, slopes = info_nce(
        (expert.A, expert.B), queries, candidates, targets, masked, temperature=0.05, labels=labels
    )
    for slope in slopes:
        np.testing.assert_allclose(slope, 0, atol=1e-5)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_in_corpus_mode_every_chunk_is_a_candidate(seed: int) -> None:
    """None is copied, and what is masked is what is relevant and not the target."""
    hard = problem(seed % 5, train=40, dev=1)
    batches = Batches(hard, size=8, mined=3, random=50, margin=None, negatives="corpus")
    batch = batches.draw(np.random.default_rng(seed))
    assert batch.candidates is hard.corpus.vectors
    rows = [int(np.flatnonzero((hard.queries == q).all(axis=1))[0]) for q in batch.queries]
    for number, row in enumerate(rows):
        relevant = np.isin(hard.corpus.documents, list(hard.positives[row]))
        assert relevant[batch.targets[number]]
        relevant[batch.targets[number]] = False
        np.testing.assert_array_equal(batch.masked[number], relevant)


def test_the_margin_masks_mined_ones_or_all() -> None:
    """In both modes; what is below the margin never, and nothing without a margin."""
    expected = {
        (1.0, "mined"): [1],
        (1.0, "all"): [0, 1],
        (1.015, "all"): [0],
        (0.5, "mined"): [1],
        (0.5, "all"): [0, 1, 3],
        (None, "all"): [],
    }
    for (margin, mask), masked in expected.items():
        corpus = Batches(toy(), 1, 1, 0, margin, negatives="corpus", mask=mask)  # type: ignore[arg-type]
        drawn = corpus.draw(np.random.default_rng(0))
        assert np.flatnonzero(drawn.masked[0]).tolist() == masked, (margin, mask)
        sampled = Batches(toy(), 1, 1, 500, margin, mask=mask)  # type: ignore[arg-type]
        drawn = sampled.draw(np.random.default_rng(0))
        assert len(drawn.candidates) == 5
        assert np.flatnonzero(drawn.masked[0]).tolist() == masked, (margin, mask)


def test_masked_chunks_of_the_corpus_have_no_gradient() -> None:
    """Whatever vectors they have: neither loss nor gradient changes."""
    hard = problem(0, train=40, dev=1)
    batches = Batches(hard, 8, 3, 0, 0.8, negatives="corpus", mask="all")
    batch = batches.draw(np.random.default_rng(0))
    everywhere = batch.masked.all(axis=0)
    shared = batch.masked | batch.masked.any(axis=0)
    shared[np.arange(8), batch.targets] = False
    moved = batch.candidates.copy()
    free = np.setdiff1d(np.flatnonzero(batch.masked.any(axis=0)), batch.targets)
    moved[free] = unit_vectors(len(free), 9)
    assert len(free) > everywhere.sum()
    weights = (expert_of(1).A, expert_of(1).B)
    before, after = (
        info_nce(weights, batch.queries, c, batch.targets, shared, temperature=0.05)
        for c in (batch.candidates, moved)
    )
    assert before[0] == after[0]
    for one, other in zip(before[1], after[1], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_mined_negatives_are_counted_with_what_the_margin_masks() -> None:
    """Against the best relevant chunk."""
    assert mining_counts(toy(), None) == {"mined": 1, "masked": 0, "queries_without": 0}
    assert mining_counts(toy(), 1.0) == {"mined": 1, "masked": 1, "queries_without": 0}
    both = replace(toy(), positives=[{2: 1, 0: 1}])
    assert mining_counts(both, 1.0) == {"mined": 1, "masked": 0, "queries_without": 0}
    none = replace(toy(), mined=[[]])
    assert mining_counts(none, 1.0) == {"mined": 0, "masked": 0, "queries_without": 1}


def test_listed_scores_know_their_lists_alone() -> None:
    """Candidates that are not listed get -inf; an empty list is fine."""
    teacher = ListedScores.of([{5: 0.5, 2: 0.25}, {}, {9: 1.0}])
    scores = teacher(np.asarray([2, 0, 1]), np.asarray([1, 2, 5, 7]))
    none = -np.inf
    np.testing.assert_array_equal(scores, [[none] * 4, [none, 0.25, 0.5, none], [none] * 4])
    with pytest.raises(InputError):
        ListedScores.of([{1: np.nan}])


@pytest.mark.parametrize(
    "change", [{"negatives": "corpus"}, {"negatives": "corpus", "mask": "all", "margin": 1.5}]
)
def test_training_against_the_whole_corpus_recovers_a_planted_map(
    change: dict[str, object],
) -> None:
    """As well as training against samples."""
    few = replace(QUICK, steps=60, batch=32)
    trained = train_linear([problem(0)], replace(few, **change))  # type: ignore[arg-type]
    assert trained.expert_scores.mean() > trained.base_scores.mean() + 0.1
    assert gate(trained).accepted


def test_a_teacher_alone_can_teach() -> None:
    """Where the judged targets count nothing, the expert learns what the teacher ranks first."""
    planted = problem(0)
    chunks = [int(planted.corpus.starts[next(iter(row))]) for row in planted.positives]
    taught = replace(planted, teacher=ListedScores.of({chunk: 1.0} for chunk in chunks))
    wrong = np.random.default_rng(0).permutation(len(planted.positives))
    blind = replace(taught, positives=[planted.positives[row] for row in wrong])
    few = replace(QUICK, steps=60, batch=32, evaluate_every=20)
    plain, learned = (
        train_linear([blind], replace(few, distillation=weight, negatives="corpus"))
        for weight in (0.0, 1.0)
    )
    assert plain.expert_scores.mean() < learned.expert_scores.mean() - 0.1


def test_unknown_ways_are_refused() -> None:
    """With those that exist."""
    with pytest.raises(InputError, match="'all' is none of sampled, corpus"):
        replace(QUICK, negatives="all")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'none' is none of mined, all"):
        replace(QUICK, mask="none")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="distillation"):
        replace(QUICK, distillation=1.5)
    assert unit_vectors(1, 0).shape == (1, DIMENSIONS)

"""Metrics agree with trec_eval, and exact ranking with its naive twin."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from pgembed import metrics
from pgembed.errors import InputError
from pgembed.linear_expert import unit
from pgembed.metrics import (
    Corpus,
    document_scores,
    ideal_gain,
    ndcg_at_k,
    ndcg_of,
    ndcg_of_rankings,
    ndcg_of_scorings,
    recall_at_k,
    reciprocal_rank,
    top_documents,
)

MEASURES = {"ndcg_cut.1,5,10", "recall.5,100", "recip_rank"}

runs = st.dictionaries(st.integers(0, 40).map("d{}".format), st.integers(0, 6), max_size=30)
judgments = st.dictionaries(
    st.integers(0, 40).map("d{}".format), st.integers(-1, 4), min_size=1, max_size=20
)


def trec_order(run: Mapping[str, int]) -> list[str]:
    """Rank as trec_eval does: by score, equal scores by descending document id."""
    return sorted(run, key=lambda document: (run[document], document), reverse=True)


@given(run=runs, judged=judgments)
def test_metrics_equal_trec_eval(run: dict[str, int], judged: dict[str, int]) -> None:
    """nDCG, recall and reciprocal rank are trec_eval's to 1e-6, with ties and grades."""
    evaluator = pytrec_eval.RelevanceEvaluator({"q": judged}, MEASURES)
    theirs = evaluator.evaluate({"q": {d: float(score) for d, score in run.items()}})["q"]
    ranked = [judged.get(document, 0) for document in trec_order(run)]
    ideal = list(judged.values())
    ours = {
        **{f"ndcg_cut_{k}": ndcg_at_k(ranked, ideal, k) for k in (1, 5, 10)},
        **{f"recall_{k}": recall_at_k(ranked, ideal, k) for k in (5, 100)},
        "recip_rank": reciprocal_rank(ranked),
    }
    assert ours == pytest.approx({name: theirs[name] for name in ours}, abs=1e-6)


def test_many_rankings_at_once_equal_one_by_one() -> None:
    """The vectorised form gives each query what the single form gives."""
    generator = np.random.default_rng(0)
    ranked = generator.integers(-1, 4, size=(50, 17))
    ideal = np.sort(ranked, axis=1)
    expected = [ndcg_at_k(r, i, 7) for r, i in zip(ranked, ideal, strict=True)]
    np.testing.assert_allclose(ndcg_of_rankings(ranked, ideal, 7), expected)


def test_nothing_relevant_scores_zero() -> None:
    """A query without a relevant document scores 0 on every metric."""
    assert ndcg_at_k([0, 0], [0]) == recall_at_k([0], [0]) == reciprocal_rank([0, 0]) == 0
    assert ndcg_at_k([], []) == 0


def chunked(seed: int, documents: int = 60) -> Corpus:
    """Documents of one to four chunks; coarse components, so that scores tie."""
    generator = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(documents), generator.integers(1, 5, size=documents))
    vectors = generator.integers(-1, 2, size=(len(numbers), 4)).astype(np.float32)
    return Corpus(vectors, numbers)


def naive_order(query: np.ndarray, corpus: Corpus) -> list[int]:
    """Rank every document by its best chunk, equal scores by number."""
    best: dict[int, float] = {}
    for vector, document in zip(corpus.vectors, corpus.documents.tolist(), strict=True):
        best[document] = max(best.get(document, -np.inf), float(vector @ query))
    return sorted(best, key=lambda document: (-best[document], document))


@given(seed=st.integers(0, 10_000), k=st.integers(1, 70))
def test_exact_ranking_equals_its_naive_twin(seed: int, k: int) -> None:
    """Ranking and nDCG over chunked documents follow the naive order, ties included."""
    corpus = chunked(seed)
    generator = np.random.default_rng(seed + 1)
    queries = generator.integers(-1, 2, size=(3, 4)).astype(np.float32)
    relevant = [
        {int(d): int(generator.integers(-1, 4)) for d in generator.integers(60, size=15)}
        for _ in queries
    ]
    orders = [naive_order(query, corpus) for query in queries]
    assert top_documents(queries, corpus, k).tolist() == [order[:k] for order in orders]
    expected = [
        ndcg_at_k([judged.get(d, 0) for d in order], list(judged.values()), k)
        for order, judged in zip(orders, relevant, strict=True)
    ]
    np.testing.assert_allclose(ndcg_of(queries, corpus, relevant, k), expected, atol=1e-12)


def test_many_scorings_equal_ranking_each() -> None:
    """Many scorings of one query's candidates give what ranking each of them gives."""
    generator = np.random.default_rng(3)
    scores = generator.integers(0, 8, size=(20, 25)).astype(np.float64)
    judged = {3: 1, 4: 3, 11: -1, 24: 2}
    expected = []
    for row in scores:
        order = sorted(range(25), key=lambda column: (-row[column], column))
        expected.append(ndcg_at_k([judged.get(c, 0) for c in order], list(judged.values()), 5))
    ideal = ideal_gain(judged, 5)
    np.testing.assert_allclose(ndcg_of_scorings(scores, judged, ideal=ideal, k=5), expected)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block of one query scores like one block of all."""
    corpus = chunked(5)
    queries = np.random.default_rng(6).integers(-1, 2, size=(9, 4)).astype(np.float32)
    relevant = [{number: 1} for number in range(9)]
    at_once = ndcg_of(queries, corpus, relevant)
    monkeypatch.setattr(metrics, "BLOCK_BYTES", 1)
    np.testing.assert_array_equal(ndcg_of(queries, corpus, relevant), at_once)
    assert document_scores(queries, corpus).shape == (9, corpus.size)


def test_a_query_that_is_not_a_number_ranks_nothing() -> None:
    """A vector with NaN scores 0, so that a diverged expert never looks perfect."""
    corpus = Corpus(unit(np.eye(3, dtype=np.float32)), np.arange(3))
    broken = np.full((1, 3), np.nan, dtype=np.float32)
    assert ndcg_of(broken, corpus, [{0: 1}], k=2) == [0.0]


@pytest.mark.parametrize("documents", [[1, 2], [0, 2], [1, 0], [0]])
def test_corpus_refuses_documents_out_of_order(documents: list[int]) -> None:
    """Documents must be numbered without gaps, in the order of their chunks."""
    with pytest.raises(InputError):
        Corpus(np.ones((2, 3), dtype=np.float32), np.asarray(documents))


def test_corpus_refuses_vectors_that_are_not_finite() -> None:
    """A corpus with NaN is refused."""
    with pytest.raises(InputError, match="not finite"):
        Corpus(np.asarray([[np.nan, 1.0]], dtype=np.float32), np.asarray([0]))


def test_unknown_documents_and_missing_judgments_are_refused() -> None:
    """Judgments must fit queries and corpus."""
    corpus = Corpus(np.eye(3, dtype=np.float32), np.arange(3))
    with pytest.raises(InputError, match="document 3"):
        ndcg_of(corpus.vectors[:1], corpus, [{3: 1}])
    with pytest.raises(InputError, match="1 queries have 2"):
        ndcg_of(corpus.vectors[:1], corpus, [{}, {}])

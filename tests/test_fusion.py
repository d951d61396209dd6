"""The fusion of hybrid search: its formula, its fit to judged queries, and its gate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pgembed import fusion_fitting
from pgembed.database import Connection
from pgembed.encoders import Encoder
from pgembed.errors import InputError, NotFoundError, TrainingError
from pgembed.fusion import (
    DEFAULT,
    DENSE,
    LEXICAL,
    Candidates,
    Fusion,
    FusionFit,
    FusionKind,
    JudgedCandidates,
    fit_fusion_weights,
    fused_scores,
    performance,
    scaled,
    stacked_weight,
)
from pgembed.fusion_fitting import FittedFusion, fit_fusion, folds_of
from pgembed.fusions import list_fusions, reset_fusion
from pgembed.judgments import add_judgments
from pgembed.metrics import ideal_gain
from pgembed.model import Judgment
from pgembed.registry import open_registered
from pgembed.searching import search

ON_SHARED = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
KINDS = ("zscore", "minmax", "rrf")

SPREAD = {
    "zscore": "array[avg(d), stddev_pop(d), avg(l), stddev_pop(l)]",
    "minmax": "array[min(d), max(d) - min(d), min(l), max(l) - min(l)]",
    "rrf": "max(null::float8[])",
}
"""As pgembed.page_statement has it."""

scores = st.floats(-1, 30).map(lambda value: round(value, 3))
ranks = st.none() | st.integers(1, 300)
candidate_rows = st.tuples(scores, scores, ranks, ranks).filter(lambda row: row[2] or row[3])
rows_of_candidates = st.lists(candidate_rows, min_size=1, max_size=12)


def candidates_of(rows: list[tuple[Any, ...]]) -> Candidates:
    """Candidates from rows as pgembed.candidates has them, without the key."""
    table = np.asarray([[np.inf if v is None else v for v in row] for row in rows], np.float64)
    return Candidates(*table.reshape(-1, 4).T)


def planted(
    weight: float, queries: int, seed: int = 0, noise: float = 0.3, size: int = 60
) -> list[JudgedCandidates]:
    """Queries whose relevant row is the best by z-scores with a weight, but for some noise."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(queries):
        dense, lexical = random.standard_normal((2, size))
        order = np.arange(1.0, size + 1)
        best = (1 - weight) * dense + weight * lexical + noise * random.standard_normal(size)
        judged = {int(best.argmax()): 1}
        made.append(
            JudgedCandidates(Candidates(dense, lexical, order, order), judged, ideal_gain(judged))
        )
    return made


# The formula.


@ON_SHARED
@given(
    rows=rows_of_candidates,
    kind=st.sampled_from(KINDS),
    weight=st.integers(0, 1000).map(lambda share: share / 1000),
)
def test_the_twin_scores_as_the_database_does(
    shared: Connection, rows: list[tuple[Any, ...]], kind: FusionKind, weight: float
) -> None:
    """For every kind, weight, rank and absent rank, within the spread of the first hundred."""
    candidates = candidates_of(rows)
    if kind == "zscore":
        # PostgreSQL's deviation of equal numbers is 0 but for rounding, numpy's is not looked at.
        for scores_of_arm in (candidates.dense, candidates.lexical):
            first = scores_of_arm[candidates.is_first]
            assume(not first.any() or np.ptp(first) > 0)
    found = shared.execute(
        f"with c as (select * from unnest(%s::float8[], %s::float8[], %s::bigint[], %s::bigint[])"
        " with ordinality as c (d, l, dr, lr, place)),"
        f" s as (select {SPREAD[kind]} as spread from c where least(dr, lr) <= 100)"
        " select pgembed.fused_score(%s, %s, d, l, dr, lr, spread) from c, s order by place",
        (*map(list, zip(*rows, strict=True)), kind, weight),
    ).fetchall()
    twin = fused_scores(candidates, kind, [weight])[0]
    assert twin.tolist() == pytest.approx([score for (score,) in found], abs=1e-6)


@pytest.fixture
def tiny(shared: Connection) -> Encoder:
    """The encoder of ``papers``."""
    return open_registered(shared, "tiny")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["red apple", "chapter 13 nature", "number 7 number", "unheard"])
def test_hybrid_search_ranks_as_the_twin_does(
    shared: Connection, tiny: Encoder, kind: FusionKind, text: str
) -> None:
    """Scores and order of a hybrid search are those of the twin over its candidates."""
    vector = tiny.encode_query([text])[0]
    rows = shared.execute(
        "select key, dense_score, lexical_score, dense_rank, lexical_rank"
        " from pgembed.candidates('papers', pgembed.as_vector(%b::real[]), %s) order by key::int",
        (vector.tolist(), text),
    ).fetchall()
    twin = fused_scores(candidates_of([row[1:] for row in rows]), kind, [0.4])[0]
    by_key = {row[0]: score for row, score in zip(rows, twin, strict=True)}
    options: Any = {"hybrid": True, "fusion": kind, "lexical_weight": 0.4, "mode": "base"}
    hits = search(shared, "papers", text, k=60, encoder=tiny, **options)
    assert {hit.key for hit in hits} == set(by_key)
    assert [hit.score for hit in hits] == pytest.approx(np.sort(twin)[::-1].tolist(), abs=1e-9)
    assert [by_key[hit.key] for hit in hits] == pytest.approx([h.score for h in hits], abs=1e-9)


def test_only_the_first_hundred_of_an_arm_make_the_spread() -> None:
    """So that deeper pages, which bring more candidates, do not move the scores."""
    values = np.asarray([1.0, 3.0, 100.0])
    first = np.asarray([True, True, False])
    assert scaled(values, first, "zscore").tolist() == [-1, 1, 98]
    assert scaled(values, first, "minmax").tolist() == [0, 1, 49.5]


@pytest.mark.parametrize("kind", ["zscore", "minmax"])
def test_an_arm_that_scores_all_alike_says_nothing(kind: FusionKind) -> None:
    """Its part is 0 for every row, also where there is no row at all."""
    constant = np.full(3, 0.1)
    assert scaled(constant, np.ones(3, bool), kind).tolist() == [0, 0, 0]
    assert scaled(np.zeros(0), np.zeros(0, bool), kind).tolist() == []


def test_equal_scores_keep_the_order_of_keys() -> None:
    """Of two rows with one score, the earlier key ranks first."""
    both = Candidates(np.ones(2), np.zeros(2), np.asarray([1.0, 2.0]), np.full(2, np.inf))
    ndcg = [
        performance([JudgedCandidates(both, {place: 1}, 1.0)], [DEFAULT])[0, 0] for place in (0, 1)
    ]
    assert ndcg == pytest.approx([1, 1 / np.log2(3)])


# The fit.


@pytest.mark.parametrize("weight", [0.0, 0.15, 0.5, 0.85, 1.0])
@pytest.mark.parametrize(("queries", "off"), [(30, 0.2), (200, 0.1)])
def test_the_fit_finds_a_planted_weight(weight: float, queries: int, off: float) -> None:
    """From few queries already, and wherever it lies; the pure arms are in reach."""
    fit = fit_fusion_weights(planted(weight, queries))
    assert fit.fusion.lexical_weight == pytest.approx(weight, abs=off + 1e-9)
    assert fit.fitted.mean() >= fit.zscore.mean() - 0.02
    assert fit.passes


def test_the_fit_is_measured_on_queries_it_has_not_seen() -> None:
    """A fold that wants another fusion than the rest gets the rest's, and its figure shows it."""
    judged = planted(0.0, 40, noise=0.0) + planted(1.0, 10, seed=1, noise=0.0)
    folds = np.repeat([0, 1, 2, 3, 4], 10)
    fit = fit_fusion_weights(judged, folds)
    assert fit.fitted[40:].mean() < 0.6
    assert fit.lexical[40:].mean() == 1


def test_the_logistic_stack_weighs_the_arms() -> None:
    """An arm that misleads has weight 0, and without anything to learn the default's is taken."""
    assert stacked_weight(planted(0.5, 200)) == pytest.approx(0.5, abs=0.05)
    assert stacked_weight(planted(-0.5, 200)) == 0
    assert stacked_weight([]) == DEFAULT.lexical_weight
    noise = [JudgedCandidates(one.candidates, {}, 1.0) for one in planted(0.5, 3)]
    assert stacked_weight(noise) == DEFAULT.lexical_weight


def test_the_logistic_stack_is_sure_of_separated_rows() -> None:
    """Its coefficients stay finite where one arm tells all relevant rows from the others."""
    assert stacked_weight(planted(0.0, 50, noise=0.0)) == pytest.approx(0, abs=0.05)
    assert stacked_weight(planted(1.0, 50, noise=0.0)) == pytest.approx(1, abs=0.05)


def test_a_query_without_candidates_counts_as_nothing_found() -> None:
    """It has nDCG 0 under every fusion, and does not disturb the fit."""
    empty = JudgedCandidates(candidates_of([]), {}, 1.0)
    fit = fit_fusion_weights([*planted(0.5, 40), empty])
    assert fit.dense[-1] == fit.fitted[-1] == 0


def test_one_query_is_too_few() -> None:
    """None could be held out."""
    with pytest.raises(TrainingError, match="at least 2"):
        fit_fusion_weights(planted(0.5, 1))


@given(st.lists(st.text(), min_size=1, max_size=40, unique=True))
def test_folds_are_equally_large_and_follow_the_text(texts: list[str]) -> None:
    """A query stays in its fold in whatever order the queries come."""
    folds = folds_of(texts)
    counts = np.bincount(folds, minlength=5)
    assert counts.max() - counts.min() <= 1
    assert folds_of(texts[::-1]).tolist() == folds[::-1].tolist()


# The gate.


def fit_with(fitted: float, dense: float, lexical: float, queries: int = 40) -> FusionFit:
    """A fit with these means."""
    ones: NDArray[np.float64] = np.ones(queries)
    return FusionFit(
        Fusion("zscore", 0.5), fitted * ones, dense * ones, lexical * ones, 0.1 * ones, 0.1 * ones
    )


@pytest.mark.parametrize(
    ("fitted", "dense", "lexical", "passes"),
    [(0.6, 0.5, 0.4, True), (0.5, 0.5, 0.4, True), (0.45, 0.4, 0.5, False), (0.4, 0.5, 0.1, False)],
)
def test_a_fit_below_the_better_arm_fails(
    fitted: float, dense: float, lexical: float, passes: bool
) -> None:
    """Whichever arm that is; a fit as good as the better arm passes."""
    assert fit_with(fitted, dense, lexical).passes is passes


def ask(connection: Connection, count: int, split: str = "dev") -> None:
    """Judge queries that words alone answer: each number is in one paper."""
    judgments = [Judgment(f"number {n}", str(n), split=split) for n in range(1, count + 1)]
    add_judgments(connection, "papers", judgments)


def served(connection: Connection) -> tuple[str, float]:
    """Kind and weight that hybrid searches of ``papers`` use."""
    (one,) = [each for each in list_fusions(connection) if each.collection == "papers"]
    return one.kind, one.lexical_weight


def test_what_was_fitted_serves(shared: Connection, tiny: Encoder) -> None:
    """A hybrid search without a weight of its own has the fitted one from then on."""
    ask(shared, 40)
    done: list[tuple[int, int]] = []
    fitted = fit_fusion(
        shared, "papers", encoder=tiny, on_progress=lambda *counts: done.append(counts)
    )
    assert isinstance(fitted, FittedFusion)
    assert fitted.installed
    assert fitted.queries == 40
    assert fitted.lexical == 1
    assert fitted.fitted >= max(fitted.lexical, fitted.dense)
    assert done[-1] == (40, 40)
    assert served(shared) == (fitted.kind, fitted.lexical_weight)
    plain = search(shared, "papers", "red apple", hybrid=True, encoder=tiny)
    given = search(
        shared,
        "papers",
        "red apple",
        hybrid=True,
        encoder=tiny,
        fusion=fitted.kind,
        lexical_weight=fitted.lexical_weight,
    )
    assert plain == given


def test_a_fit_is_stored_with_its_provenance(shared: Connection, tiny: Encoder) -> None:
    """Queries, mode, split, date and figures stand beside it."""
    ask(shared, 30)
    fitted = fit_fusion(shared, "papers", mode="base", encoder=tiny)
    (metrics,) = [each.metrics for each in list_fusions(shared) if each.collection == "papers"]
    assert (metrics["queries"], metrics["mode"], metrics["split"]) == (30, "base", "dev")
    assert metrics["ndcg_at_10"]["dense"] == pytest.approx(fitted.dense, abs=1e-5)
    assert metrics["gain_over_better_arm"]["low"] == fitted.gain.low
    assert metrics["fitted_on"]


def test_a_refused_fit_leaves_what_served(
    shared: Connection, tiny: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below the better arm it is not installed, and the result says by how much."""
    ask(shared, 30)
    shared.execute("select pgembed.set_fusion('papers', 'minmax', 0.7)")
    monkeypatch.setattr(
        fusion_fitting, "fit_fusion_weights", lambda *_: fit_with(0.4, 0.5, 0.1, 30)
    )
    fitted = fit_fusion(shared, "papers", encoder=tiny)
    assert not fitted.installed
    assert "below the better arm alone by 0.1000" in fitted.reason
    assert fitted.gain.high == pytest.approx(-0.1)
    assert served(shared) == ("minmax", 0.7)


@pytest.mark.parametrize(("dense", "lexical", "weight"), [(0.5, 0.3, 0.0), (0.3, 0.5, 1.0)])
def test_where_fusing_only_harms_the_better_arm_serves(
    shared: Connection,
    tiny: Encoder,
    monkeypatch: pytest.MonkeyPatch,
    dense: float,
    lexical: float,
    weight: float,
) -> None:
    """Fitted or not, fusing is below an arm on 50 queries: that arm alone is installed."""
    ask(shared, 30)
    fit = fit_with(0.4, dense, lexical, 50)
    monkeypatch.setattr(fusion_fitting, "fit_fusion_weights", lambda *_: fit)
    fitted = fit_fusion(shared, "papers", encoder=tiny)
    assert fitted.installed
    assert "arm alone is installed" in fitted.reason
    assert served(shared) == ("zscore", weight)


def test_few_queries_do_not_change_what_serves(shared: Connection, tiny: Encoder) -> None:
    """The fit is reported, and refused for their number."""
    ask(shared, 19)
    fitted = fit_fusion(shared, "papers", encoder=tiny)
    assert not fitted.installed
    assert "19 judged queries are too few" in fitted.reason
    assert served(shared) == ("zscore", 0.3)


def test_a_fit_may_only_be_measured(shared: Connection, tiny: Encoder) -> None:
    """With install=False nothing is written."""
    ask(shared, 30)
    assert not fit_fusion(shared, "papers", encoder=tiny, install=False).installed
    assert served(shared) == ("zscore", 0.3)


def test_a_dev_split_is_cut_from_train(shared: Connection, tiny: Encoder) -> None:
    """As for experts: a fifth of the training queries by a hash of their text."""
    ask(shared, 60, split="train")
    assert 5 <= fit_fusion(shared, "papers", encoder=tiny).queries <= 19
    assert fit_fusion(shared, "papers", split="train", encoder=tiny).queries >= 41


def test_without_judgments_z_scores_serve(shared: Connection, tiny: Encoder) -> None:
    """They need no labels, and are what a reset goes back to."""
    options: Any = {"hybrid": True, "encoder": tiny}
    default = search(shared, "papers", "red apple", fusion="zscore", lexical_weight=0.3, **options)
    assert search(shared, "papers", "red apple", **options) == default
    shared.execute("select pgembed.set_fusion('papers', 'rrf')")
    assert search(shared, "papers", "red apple", **options) != default
    reset_fusion(shared, "papers")
    assert search(shared, "papers", "red apple", **options) == default
    assert list_fusions(shared)[-1].fitted_at is None


def test_what_cannot_be_fitted_says_why(shared: Connection, tiny: Encoder) -> None:
    """No judgments, a split without any, an unknown split, collection or expert."""
    with pytest.raises(TrainingError, match="no judgments"):
        fit_fusion(shared, "papers", encoder=tiny)
    ask(shared, 30)
    with pytest.raises(TrainingError, match="0 judged queries of split 'test'"):
        fit_fusion(shared, "papers", split="test", encoder=tiny)
    with pytest.raises(InputError, match="split 'all' is unknown"):
        fit_fusion(shared, "papers", split="all", encoder=tiny)
    with pytest.raises(NotFoundError, match="nope"):
        fit_fusion(shared, "papers", mode="nope", encoder=tiny)
    for call in (fit_fusion, reset_fusion):
        with pytest.raises(NotFoundError, match="nothing"), shared.transaction():
            call(shared, "nothing")


def test_either_arm_is_a_fusion(shared: Connection, tiny: Encoder) -> None:
    """Weights 0 and 1 rank as the dense and as the lexical arm alone."""
    judged = planted(0.5, 20)
    arms = performance(judged, [DENSE, LEXICAL])
    for column, name in enumerate(("dense", "lexical")):
        alone = [np.argsort(-getattr(one.candidates, name)).tolist() for one in judged]
        places = [order.index(*one.relevant) for order, one in zip(alone, judged, strict=True)]
        expected = [1 / np.log2(place + 2) if place < 10 else 0 for place in places]
        assert arms[:, column].tolist() == pytest.approx(expected)

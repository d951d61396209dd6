"""Routers of every kind: built, installed, loaded again, added to; and the parts they are made of.

The world has 16 dimensions: queries of domain ``code`` and ``law`` have their content turned, which
the expert of the same name turns back, and those of ``plain`` are in order. One of the first three
dimensions tells the domain.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from pgembed.arm_router import ArmRouter, RouterParameters
from pgembed.database import Connection
from pgembed.domain_heads import REGULARISATION, fit_linear_head
from pgembed.errors import GateError, InputError, NotFoundError, PgembedError, TrainingError
from pgembed.experts import register_expert, retire_expert
from pgembed.judgments import JudgedCollection, JudgedQueries
from pgembed.linear_expert import LinearExpert, unit
from pgembed.metrics import Corpus
from pgembed.out_of_domain import fit_fallback
from pgembed.pilots import build_pilots, references_of
from pgembed.registry import registered_encoder
from pgembed.router_building import add_to_router, build_router
from pgembed.router_fitting import MINIMUM_SHARE, STEPS, BuiltRouter
from pgembed.router_record import router_record
from pgembed.router_settings import RouterSettings
from pgembed.routing import load_router
from pgembed.soft_fitting import PooledProblem, RoutingProblem, select_shares
from tests.sql.support import as_literal, register_plain_encoder

DIMENSIONS, PLACES = 16, 3
DOMAINS = ("code", "law", "plain")
COUNTS = {"train": 60, "dev": 30}


def turn_of(domain: str) -> np.ndarray:
    """How the content of a domain's queries is turned, as a matrix of all dimensions."""
    turn = np.eye(DIMENSIONS)
    if domain != "plain":
        random = np.random.default_rng(DOMAINS.index(domain))
        size = DIMENSIONS - PLACES
        turn[PLACES:, PLACES:] = np.linalg.qr(random.standard_normal((size, size)))[0]
    return turn


def expert_for(domain: str) -> LinearExpert:
    """Z + z (T^-1 - 1), of which the content is what it was."""
    back = np.linalg.inv(turn_of(domain)) - np.eye(DIMENSIONS)
    return LinearExpert(np.eye(DIMENSIONS, dtype=np.float32), back.astype(np.float32))


def corpus() -> Corpus:
    """Documents of one chunk, in content alone."""
    vectors = np.random.default_rng(7).standard_normal((120, DIMENSIONS))
    vectors[:, :PLACES] = 0
    return Corpus(unit(vectors).astype(np.float32), np.arange(120))


def queries(domain: str, split: str) -> JudgedQueries:
    """Queries with a little noise, each for one document."""
    random = np.random.default_rng([DOMAINS.index(domain), len(split)])
    found = random.integers(120, size=COUNTS[split])
    content = corpus().vectors[found] + 0.05 * random.standard_normal((len(found), DIMENSIONS))
    Z = content @ turn_of(domain)
    Z[:, DOMAINS.index(domain)] += 0.8
    texts = tuple(f"{domain} {split} {number}" for number in range(len(found)))
    return JudgedQueries(texts, unit(Z).astype(np.float32), tuple({int(d): 1} for d in found))


def judged(domains: Sequence[str] = DOMAINS, name: str = "library") -> JudgedCollection:
    """A collection with these domains."""
    keys = tuple(str(number) for number in range(120))
    found = {(domain, split): queries(domain, split) for domain in domains for split in COUNTS}
    return JudgedCollection(name, "turned", corpus(), keys, {}, found)


def add_expert(connection: Connection, name: str) -> None:
    """The expert of a domain, active."""
    spec = registered_encoder(connection, "turned")
    register_expert(connection, spec, name, expert_for(name), domain=name)


@pytest.fixture
def turned(shared: Connection) -> Connection:
    """An encoder with two experts; what a test does to it is undone."""
    register_plain_encoder(shared, "turned", DIMENSIONS)
    for name in ("code", "law"):
        add_expert(shared, name)
    return shared


def build(connection: Connection, kind: Any = "pilot", **settings: Any) -> BuiltRouter:
    """A router on all domains."""
    return build_router(connection, [judged()], settings=RouterSettings(kind=kind, **settings))


def everything(connection: Connection) -> dict[str, list[Any]]:
    """The rows of every table of the router."""
    return {
        table: connection.execute(f"select t::text from pgembed.{table} as t order by 1").fetchall()  # type: ignore[arg-type]
        for table in ("router", "pilot", "router_domain", "router_reference", "utility")
    }


SETTINGS: dict[str, dict[str, Any]] = {
    "pilot": {},
    "pilot by domain, several, greatest": {"labels": "domain", "pilots": 3, "aggregate": "max"},
    "lda": {},
    "logistic": {},
    "knn": {"neighbours": 5},
    "utility": {},
    "utility by logistic": {"posterior": "logistic"},
    "utility by knn": {"posterior": "knn"},
    "fixed": {"weights": {"code": 2.0, "law": 1.0}},
    "uniform": {},
}


@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_installed_is_what_was_built(turned: Connection, name: str, fallback: bool) -> None:
    """Loaded again, and in SQL, a router gives the weights that were measured before."""
    steps: list[str] = []
    settings = RouterSettings(kind=name.split()[0], fallback=fallback, **SETTINGS[name])  # type: ignore[arg-type]
    built = build_router(turned, [judged()], settings=settings, on_step=steps.append)
    assert tuple(steps) == STEPS
    assert built.gain.low > 0
    loaded = load_router(turned, "turned")
    assert (loaded.policy.fallback is not None) == fallback
    told = settings.kind not in ("fixed", "uniform")
    assert loaded.policy.parameters.minimum_share == (MINIMUM_SHARE if told else 0)
    Z = np.concatenate([queries(domain, "dev").vectors[:4] for domain in DOMAINS])
    for mode in ("soft", "hard"):
        arms, weights = built.router.weights(Z, mode)
        again = loaded.weights(Z, mode)
        assert again[0] == arms
        np.testing.assert_allclose(again[1], weights, atol=1e-12)
        for z, row in zip(Z, weights, strict=True):
            found = turned.execute(
                "select expert, weight from pgembed.route('turned', %s::vector, %s)",
                (as_literal(z), mode),
            ).fetchall()
            expected = {arm: weight for arm, weight in zip(arms, row, strict=True) if weight > 1e-6}
            assert {a: w for a, w in found if w > 1e-6} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", [name for name in SETTINGS if name not in ("fixed", "uniform")])
def test_queries_go_to_the_expert_of_their_domain(turned: Connection, name: str) -> None:
    """Of every kind that looks at the query, in mode hard; plain ones to the base."""
    settings = RouterSettings(kind=name.split()[0], **SETTINGS[name])  # type: ignore[arg-type]
    built = build_router(turned, [judged()], settings=settings)
    for domain, arm in (("code", "code"), ("law", "law"), ("plain", "base")):
        arms, weights = built.router.weights(queries(domain, "dev").vectors, "hard")
        assert weights.mean(axis=0)[arms.index(arm)] > 0.95


def test_the_record_tells_what_was_built(turned: Connection) -> None:
    """Utilities with gains and shares, domains with their queries, figures, the fallback."""
    built = build(turned, "utility", fallback=True)
    record = router_record(turned, "turned")
    assert record is not None
    assert (record.kind, record.version, record.pilots) == ("utility", 1, ())
    assert [(each.domain, each.n) for each in record.domains] == [(d, 60) for d in DOMAINS]
    worth = {(each.domain, each.expert): each for each in record.utility}
    assert set(worth) == {(d, arm) for d in DOMAINS for arm in ("base", "code", "law")}
    for domain in DOMAINS:
        shares = [each.share for (of, _), each in worth.items() if of == domain]
        assert sum(shares) == pytest.approx(1)
        assert worth[domain, "base"].gain == 0
    assert worth["law", "law"].gain > 0.5
    assert worth["law", "law"].share > 0.9
    assert worth["plain", "law"].gain < -0.5
    assert record.references == 180
    assert record.metrics["gain"]["low"] == pytest.approx(built.gain.low)
    macro = record.metrics["dev_ndcg_at_10"]["macro"]
    assert macro == pytest.approx(
        np.mean(list(record.metrics["dev_ndcg_at_10"]["by_domain"].values()))
    )
    assert built.fallback is not None
    assert record.metrics["fallback"]["left_out"][1] == pytest.approx(built.fallback.left_out)


def test_without_a_router_there_is_no_record(turned: Connection) -> None:
    """An unknown encoder is an error."""
    assert router_record(turned, "turned") is None
    with pytest.raises(NotFoundError):
        router_record(turned, "nope")


def test_a_router_no_better_than_base_is_refused(turned: Connection) -> None:
    """And not a row of the one before is touched."""
    build(turned, "knn", fallback=True)
    before = everything(turned)
    with pytest.raises(GateError, match="the router is refused"):
        build(turned, "fixed", weights={"base": 1.0})
    assert everything(turned) == before


def test_another_kind_leaves_no_row_of_the_last(turned: Connection) -> None:
    """Each kind has its own tables."""
    build(turned, "utility", fallback=True)
    build(turned, "pilot")
    rows = everything(turned)
    assert [len(rows[table]) > 0 for table in rows] == [True, True, False, False, False]


@pytest.mark.parametrize("settings", [{}, {"fallback": True}, {"labels": "domain", "pilots": 2}])
@pytest.mark.parametrize("kind", ["pilot", "knn", "utility"])
def test_an_expert_is_added_without_touching_other_domains(
    turned: Connection, kind: str, settings: dict[str, Any]
) -> None:
    """Its queries go to it afterwards; adding it again changes nothing but the version."""
    turned.execute("delete from pgembed.expert where encoder = 'turned' and name = 'law'")
    build_router(
        turned,
        [judged(("code", "plain"))],
        settings=RouterSettings(kind=kind, posterior="knn", **settings),  # type: ignore[arg-type]
    )
    before = everything(turned)
    add_expert(turned, "law")
    assert add_to_router(turned, [judged()], "law") == ("law",)
    added = everything(turned)
    tables = [table for table in before if table != "router"]
    for table in tables:
        assert set(before[table]) <= set(added[table])
        assert all(",law," in row for (row,) in set(added[table]) - set(before[table]))
    assert sum(len(added[t]) - len(before[t]) for t in tables) > 0
    router = load_router(turned, "turned")
    if router.policy.fallback is not None:
        fallback = router.policy.fallback
        assert fallback.kept(fallback.similarity(queries("law", "dev").vectors)).mean() > 0.9
    for domain, arm in (("code", "code"), ("law", "law"), ("plain", "base")):
        arms, weights = router.weights(queries(domain, "dev").vectors, "hard")
        assert weights.mean(axis=0)[arms.index(arm)] > 0.9
    add_to_router(turned, [judged()], "law")
    again = everything(turned)
    assert {table: again[table] for table in tables} == {table: added[table] for table in tables}


def test_what_was_known_of_the_domain_is_replaced(turned: Connection) -> None:
    """No pilot of before stays beside the new ones."""
    build(turned, "pilot", pilots=3, labels="domain")
    turned.execute("update pgembed.router set parameters = parameters || '{\"pilots\": 1}'")
    add_to_router(turned, [judged()], "law")
    record = router_record(turned, "turned")
    assert record is not None
    counts = {d: sum(p.domain == d for p in record.pilots) for d in DOMAINS}
    assert counts == {"code": 3, "law": 1, "plain": 3}
    assert record.version == 2


@pytest.mark.parametrize(
    ("kind", "settings", "why"),
    [
        ("lda", {}, "kind lda: it weighs all domains against each other"),
        ("logistic", {}, "kind logistic: it weighs"),
        ("utility", {}, "kind utility: it weighs"),
        (
            "fixed",
            {"weights": {"law": 1.0, "code": 1.0}},
            "kind fixed: it gives every query the same",
        ),
    ],
)
def test_kinds_that_are_built_as_a_whole_are_not_added_to(
    turned: Connection, kind: str, settings: dict[str, Any], why: str
) -> None:
    """The error says so, and what to do."""
    build(turned, kind, **settings)
    before = everything(turned)
    with pytest.raises(TrainingError, match=why) as refused:
        add_to_router(turned, [judged()], "law")
    assert "pgembed router build" in str(refused.value.hint)
    assert everything(turned) == before


def test_what_cannot_be_added_is_said(turned: Connection) -> None:
    """No router; no such expert; a retired one; one without judged queries."""
    with pytest.raises(NotFoundError, match="no router"):
        add_to_router(turned, [judged()], "law")
    build(turned)
    with pytest.raises(TrainingError, match="'nope'"):
        add_to_router(turned, [judged()], "nope")
    with pytest.raises(TrainingError, match="'law'"):
        add_to_router(turned, [judged(("code", "plain"))], "law")
    retire_expert(turned, "turned", "law")
    with pytest.raises(TrainingError, match="'law'"):
        add_to_router(turned, [judged()], "law")


def test_a_retired_expert_leaves_its_domain_to_the_next_best(turned: Connection) -> None:
    """As if it had never been: of a router by lda that was built without it."""
    spec = registered_encoder(turned, "turned")
    half = expert_for("law")
    register_expert(turned, spec, "half", LinearExpert(half.A, 0.5 * half.B))
    build(turned, "lda")
    retire_expert(turned, "turned", "law")
    removed = load_router(turned, "turned").policy
    never = build(turned, "lda").router
    assert removed.head.arms == never.head.arms == ("base", "code", "half")
    Z = queries("law", "dev").vectors
    np.testing.assert_allclose(removed.head.shares(Z, 1.0), never.head.shares(Z, 1.0), atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"kind": "oracle"}, "'oracle'"),
        ({"pilots": 0}, "at least 1"),
        ({"kind": "knn", "neighbours": 0}, "at least 1"),
        ({"kind": "fixed"}, "needs the weights"),
        ({"kind": "fixed", "weights": {"law": 0.0}}, "needs the weights"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], match: str) -> None:
    """Before anything is read."""
    with pytest.raises(InputError, match=match):
        RouterSettings(**settings)


def test_unknown_experts_of_a_fixed_router_are_named(turned: Connection) -> None:
    """With those that there are."""
    with pytest.raises(InputError, match=r"'nope'[^$]*Known are base, code, law"):
        build(turned, "fixed", weights={"nope": 1.0})


# Linear heads.


def fitted_domains(count: int) -> dict[str, np.ndarray]:
    """Clouds of unequal size."""
    random = np.random.default_rng(count)
    return {
        f"d{n}": unit(random.normal(random.standard_normal(5), 0.5, (15 + 10 * n, 5))).astype(
            np.float32
        )
        for n in range(count)
    }


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("posterior", ["lda", "logistic"])
def test_linear_heads_are_those_of_scikit_learn(posterior: Any, count: int) -> None:
    """Probabilities at temperature 1 are ``predict_proba``, of two domains as of many."""
    domains = fitted_domains(count)
    Z = np.concatenate(list(domains.values()))
    labels = np.repeat(list(domains), [len(each) for each in domains.values()])
    known = (
        LinearDiscriminantAnalysis(
            solver="lsqr", shrinkage="auto", priors=np.full(count, 1 / count)
        )
        if posterior == "lda"
        else LogisticRegression(C=REGULARISATION, class_weight="balanced", max_iter=500)
    )
    expected = known.fit(Z.astype(np.float64), labels).predict_proba(Z.astype(np.float64))
    head = fit_linear_head(posterior, domains, {})
    assert head.domains == tuple(known.classes_)
    np.testing.assert_allclose(head.probabilities(Z, 1.0), expected, atol=1e-5)
    turned = fit_linear_head(posterior, dict(reversed(domains.items())), {})
    np.testing.assert_array_equal(turned.directions, head.directions)


@pytest.mark.parametrize("domains", [{}, {"d": 5}, {"d": 5, "e": 1}])
def test_one_domain_cannot_be_told_apart(domains: Mapping[str, int]) -> None:
    """Nor one with a single query."""
    clouds = {name: np.eye(5, dtype=np.float32)[:n] for name, n in domains.items()}
    with pytest.raises(TrainingError, match="needs two of them"):
        fit_linear_head("lda", clouds, {})


def test_without_scikit_learn_the_error_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For linear heads, several pilots of a group, and many references; few do without."""
    for module in ("sklearn.discriminant_analysis", "sklearn.linear_model", "sklearn.cluster"):
        monkeypatch.setitem(sys.modules, module, None)
    domain = (queries("law", "train").vectors, np.tile([0.0, 1.0], (60, 1)))
    for work in (
        lambda: fit_linear_head("lda", fitted_domains(2), {}),
        lambda: fit_linear_head("logistic", fitted_domains(2), {}),
        lambda: build_pilots({"law": domain}, ["base", "law"], k=2),
        lambda: references_of(domain[0], 59),
    ):
        with pytest.raises(PgembedError, match="scikit-learn, which is not installed") as missing:
            work()
        assert missing.value.hint == "pip install 'pgembed-router[router]'"
    assert len(build_pilots({"law": domain}, ["base", "law"])) == 1
    assert references_of(domain[0], 60) is domain[0]


def test_several_pilots_are_the_parts_of_a_group() -> None:
    """k-means finds clouds that lie apart; a group of fewer queries has fewer pilots."""
    clouds = np.repeat(np.eye(4, dtype=np.float32)[:3], 12, axis=0)
    pilots = build_pilots({"d": (clouds, np.ones((36, 1)))}, ["law"], k=3)
    assert [(p.number, p.n) for p in pilots] == [(0, 12), (1, 12), (2, 12)]
    assert sorted(p.centroid.argmax() for p in pilots) == [0, 1, 2]
    few = build_pilots({"d": (clouds[:1], np.ones((1, 1)))}, ["law"], k=3, labels="domain")
    assert [(p.number, p.n) for p in few] == [(0, 1)]


# Shares and fallback.


def problem(arms: Mapping[str, np.ndarray], relevant: Sequence[int]) -> PooledProblem:
    """One domain whose documents lie in the plane: x, y, the diagonal, and away."""
    documents = unit(np.asarray([[1, 0], [0, 1], [1, 1], [-1, 0]], dtype=np.float32))
    grades = [{number: 1} for number in relevant]
    return PooledProblem(RoutingProblem("d", arms, grades, Corpus(documents, np.arange(4))))


def test_shares_are_the_obviously_best_mixture() -> None:
    """All to an arm that is right alone; half and half where only the diagonal is right."""
    x, y, away = np.asarray([[1, 0], [0, 1], [-1, 0]], dtype=np.float32)
    right = problem({"base": away[None], "law": x[None], "code": y[None]}, [0])
    assert select_shares(right) == {"law": 1.0}
    half = problem({"base": away[None], "law": x[None], "code": y[None]}, [2])
    shares = select_shares(half)
    assert shares == {"law": 0.5, "code": 0.5}
    mixed = half.shares_of((tuple(shares), np.asarray([list(shares.values())])))
    assert half.ndcg(mixed[None])[0, 0] == 1
    none = problem({"base": y[None], "law": x[None], "code": x[None]}, [1])
    assert select_shares(none) == {"base": 1.0}


def test_a_fallback_leaves_far_queries_to_base(turned: Connection) -> None:
    """Fitted by leaving each domain out: plain queries find their documents without being known."""
    built = build(turned, "lda", fallback=True)
    fit = built.fallback
    assert fit is not None
    assert fit.left_out > fit.left_out_without + 0.1
    assert fit.left_out <= 1
    assert fit.in_domain > fit.in_domain_without - 0.02
    far = np.zeros((1, DIMENSIONS), dtype=np.float32)
    far[0, PLACES] = 1
    arms, weights = built.router.weights(far)
    assert weights[0, arms.index("base")] > 0.9
    known = built.router.fallback
    assert known is not None
    assert known.kept(known.similarity(queries("law", "dev").vectors)).mean() > 0.7


def test_experts_of_a_domain_that_is_left_out_do_not_answer_it(turned: Connection) -> None:
    """The fallback is fitted as if neither the domain nor its experts had ever been."""
    head = build(turned, "pilot", labels="domain").router.head
    router = ArmRouter(head, RouterParameters(0.1, {"law": 0.5}))
    problems = []
    for domain in DOMAINS:
        dev = queries(domain, "dev")
        vectors = {"base": dev.vectors} | {
            name: expert_for(name).apply(dev.vectors) for name in ("code", "law")
        }
        problems.append(PooledProblem(RoutingProblem(domain, vectors, dev.relevant, corpus())))
    references = {domain: queries(domain, "train").vectors for domain in DOMAINS}
    fit = fit_fallback(router, problems, references, {"code": {"code"}, "law": {"law"}})
    cheating = fit_fallback(router, problems, references, {})
    assert fit.in_domain_without == cheating.in_domain_without
    assert fit.left_out_base == cheating.left_out_base
    assert fit.left_out_without < cheating.left_out_without

"""Pilots and the router: the paper's rule, its soft form, and what must not change either."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgembed.arm_router import ArmRouter, RouterParameters, mix
from pgembed.errors import InputError, NotFoundError
from pgembed.heads import Pilot, PilotHead
from pgembed.linear_expert import LinearExpert, unit
from pgembed.metrics import Corpus, ndcg_of
from pgembed.pilots import best_expert_labels, build_pilots, references_of
from pgembed.soft_fitting import RoutingProblem, fit_soft

DIMENSIONS = 16
EXPERTS = ("base", "code", "general", "law")

seeds = st.integers(0, 10_000)


def unit_vectors(n: int, seed: int) -> np.ndarray:
    """Random unit vectors, float32 (n, DIMENSIONS)."""
    generator = np.random.default_rng(seed)
    return unit(generator.standard_normal((n, DIMENSIONS)).astype(np.float32))


def library(seed: int) -> list[Pilot]:
    """Pilots of three experts in up to three domains; not of unit length."""
    generator = np.random.default_rng(seed)
    owners = ["code", *generator.choice(["code", "general", "law"], size=5)]
    centroids = 3 * generator.random() * unit_vectors(len(owners), seed)
    return [
        Pilot(str(owner), f"domain{number}", 20, centroid)
        for number, (owner, centroid) in enumerate(zip(owners, centroids, strict=True))
    ]


def soft(pilots: list[Pilot], **standing: float) -> ArmRouter:
    """A soft router with standing weights."""
    return ArmRouter(PilotHead(pilots), RouterParameters(0.05, standing))


def test_the_best_expert_must_lead_by_the_margin() -> None:
    """Ties, near ties and queries that nobody answers are dropped."""
    performance = np.asarray([[0.5, 0.2], [0.5, 0.495], [0.0, 0.0], [0.3, 0.3], [0.1, 0.9]])
    assert best_expert_labels(performance).tolist() == [0, -1, -1, -1, 1]
    assert best_expert_labels(performance, tie_margin=0.0).tolist() == [0, 0, -1, -1, 1]
    assert best_expert_labels(np.asarray([[0.0], [0.4]])).tolist() == [-1, 0]


def test_instance_pilots_are_centroids_of_the_queries_that_an_expert_serves_best() -> None:
    """Each domain gives an expert one pilot: the mean of its group, at unit length."""
    Z = unit_vectors(40, 0)
    performance = np.zeros((40, 2))
    performance[:25, 0] = performance[25:38, 1] = 1
    first, second = build_pilots({"films": (Z, performance)}, ["law", "code"])
    assert [(p.expert, p.domain, p.n) for p in (first, second)] == [
        ("code", "films", 13),
        ("law", "films", 25),
    ]
    np.testing.assert_allclose(first.centroid, unit(Z[25:38].mean(axis=0)), atol=1e-6)
    np.testing.assert_allclose(second.centroid, unit(Z[:25].mean(axis=0)), atol=1e-6)


def test_small_groups_give_no_pilot() -> None:
    """A group needs 10 queries and 5 % of its domain, unless told otherwise."""
    performance = np.zeros((400, 2))
    performance[:381, 0] = performance[381:, 1] = 1
    domains = {"films": (unit_vectors(400, 0), performance)}
    assert [p.expert for p in build_pilots(domains, ["a", "b"])] == ["a"]
    assert [p.n for p in build_pilots(domains, ["a", "b"], min_group=19)] == [381, 19]
    few = {"films": (unit_vectors(9, 0), performance[:9])}
    assert build_pilots(few, ["a", "b"]) == []


def test_domain_pilots_go_to_the_arm_that_is_best_on_average() -> None:
    """With domain labels each domain has one pilot of all its queries; ties go by name."""
    Z = unit_vectors(6, 0)
    best_is_law = np.tile([0.2, 0.3, 0.1, 0.4], (6, 1))
    tie = np.tile([0.2, 0.4, 0.1, 0.4], (6, 1))
    pilots = build_pilots({"a": (Z, best_is_law), "b": (Z, tie)}, EXPERTS, labels="domain")
    assert [(p.expert, p.domain, p.n) for p in pilots] == [("code", "b", 6), ("law", "a", 6)]


@given(seed=seeds, labels=st.sampled_from(["instance", "domain"]))
def test_the_order_of_experts_changes_no_pilot(seed: int, labels: str) -> None:
    """Permuting the columns of experts builds the same pilots, ties included."""
    generator = np.random.default_rng(seed)
    performance = generator.integers(0, 4, size=(60, 4)) / 4
    Z, order = unit_vectors(60, seed), generator.permutation(4)
    straight = build_pilots({"d": (Z, performance)}, EXPERTS, labels=labels, min_group=1)
    names = [EXPERTS[column] for column in order]
    turned = build_pilots({"d": (Z, performance[:, order])}, names, labels=labels, min_group=1)
    assert [(p.expert, p.n) for p in turned] == [(p.expert, p.n) for p in straight]
    for one, other in zip(straight, turned, strict=True):
        np.testing.assert_array_equal(one.centroid, other.centroid)


def test_unusable_performance_and_labels_are_refused() -> None:
    """Shapes must fit, and labels are instance or domain."""
    domains = {"d": (unit_vectors(5, 0), np.zeros((5, 3)))}
    with pytest.raises(InputError, match="has shape"):
        build_pilots(domains, EXPERTS)
    with pytest.raises(InputError, match="labels are"):
        build_pilots(domains, EXPERTS, labels="neither")


@given(seed=seeds)
def test_mean_similarity_equals_dot_with_the_mean_unit_pilot(seed: int) -> None:
    """An expert's score is the mean cosine to its pilots, to 1e-6."""
    pilots, Z = library(seed), unit_vectors(5, seed + 1)
    names, scores = soft(pilots).scores(Z)
    for name, column in zip(names, scores.T, strict=True):
        cosines = [
            Z @ (p.centroid / np.linalg.norm(p.centroid)) for p in pilots if p.expert == name
        ]
        np.testing.assert_allclose(column, np.mean(cosines, axis=0), atol=1e-6)


@given(seed=seeds)
def test_soft_vectors_rank_like_summed_scores(seed: int) -> None:
    """Ranking by the mixed vector is ranking by the weighted sum of the arms' scores."""
    Z, documents = unit_vectors(4, seed), unit_vectors(50, seed + 1)
    vectors = {name: unit_vectors(4, seed + 2 + n) for n, name in enumerate(EXPERTS[1:])}
    weighting = soft(library(seed), base=0.2, general=0.3).weights(Z)
    arms, weights = weighting
    summed = sum(
        weights[:, [column]] * ({"base": Z} | vectors)[arm] @ documents.T
        for column, arm in enumerate(arms)
    )
    mixed = mix(Z, weighting, vectors) @ documents.T
    for ours, theirs in zip(mixed, summed, strict=True):
        assert np.corrcoef(ours, theirs)[0, 1] > 1 - 1e-6
        np.testing.assert_allclose(
            ours / np.linalg.norm(ours), theirs / np.linalg.norm(theirs), atol=1e-6
        )


@given(seed=seeds, mode=st.sampled_from(["soft", "hard"]))
def test_the_order_of_pilots_changes_nothing(seed: int, mode: str) -> None:
    """A shuffled library gives the same arms and weights, to the bit."""
    pilots, Z = library(seed), unit_vectors(6, seed + 1)
    shuffled = [pilots[place] for place in np.random.default_rng(seed).permutation(len(pilots))]
    straight, turned = (soft(library, base=0.1).weights(Z, mode) for library in (pilots, shuffled))
    assert straight[0] == turned[0]
    np.testing.assert_array_equal(straight[1], turned[1])


@given(seed=seeds)
def test_removing_an_expert_equals_never_having_added_it(seed: int) -> None:
    """Without an expert's pilots the others are routed as if it had never been."""
    pilots, Z = library(seed), unit_vectors(6, seed + 1)
    law = [replace(pilot, expert="law") for pilot in pilots]
    without = [pilot for pilot in pilots if pilot.expert != "law"]
    added = soft([*without, *law])
    removed = soft([pilot for pilot in added.head.pilots if pilot.expert != "law"])
    never = soft(without)
    for mode in ("soft", "hard"):
        assert removed.weights(Z, mode)[0] == never.weights(Z, mode)[0]
        np.testing.assert_array_equal(removed.weights(Z, mode)[1], never.weights(Z, mode)[1])
    names, scores = added.scores(Z)
    kept = [column for column, name in enumerate(names) if name != "law"]
    np.testing.assert_allclose(scores[:, kept], never.scores(Z)[1], atol=1e-12)


@given(seed=seeds, base=st.floats(0, 0.5), general=st.floats(0, 0.5))
def test_soft_weights_are_standing_plus_a_softmax(seed: int, base: float, general: float) -> None:
    """Standing arms get their weight, experts a softmax of the rest; an arm that is both, both."""
    router, Z = soft(library(seed), base=base, general=general), unit_vectors(5, seed + 1)
    arms, weights = router.weights(Z)
    names, scores = router.scores(Z)
    shares = np.exp(scores / 0.05)
    shares *= (1 - base - general) / shares.sum(axis=1, keepdims=True)
    for column, arm in enumerate(arms):
        expected = {"base": base, "general": general}.get(arm, 0.0)
        expected = expected + (shares[:, names.index(arm)] if arm in names else 0.0)
        np.testing.assert_allclose(weights[:, column], expected, atol=1e-9)
    np.testing.assert_allclose(weights.sum(axis=1), 1)


def test_hard_routing_takes_the_most_similar_expert_and_ties_by_name() -> None:
    """All weight goes to one expert; among equals the first by name answers."""
    east, north = np.eye(2, DIMENSIONS, dtype=np.float32)
    pilots = [Pilot("law", "d", 9, east), Pilot("code", "d", 9, east), Pilot("art", "d", 9, north)]
    arms, weights = ArmRouter(PilotHead(pilots)).weights(np.stack([east, north]), "hard")
    assert arms == ("art", "code", "law")
    assert weights.tolist() == [[0, 1, 0], [1, 0, 0]]


def test_without_pilots_the_base_answers() -> None:
    """No pilots: hard gives base everything, soft what the standing arms leave."""
    Z = unit_vectors(2, 0)
    router = soft([], general=0.4)
    assert router.weights(Z, "hard")[0] == ("base",)
    arms, weights = router.weights(Z, "soft")
    assert dict(zip(arms, weights[0], strict=True)) == {"base": 0.6, "general": 0.4}
    route = router.route(Z[0])
    assert (route.scores, route.weights) == ({}, {"base": 0.6, "general": 0.4})
    assert route.reason == "no expert has pilot embeddings, so the base answers"


def test_an_arm_can_be_asked_for_by_name() -> None:
    """Base and every known expert can be asked for; an unknown name lists what there is."""
    parameters = RouterParameters(standing={"general": 0.2})
    router = ArmRouter(PilotHead(library(0)), parameters, others=["new"])
    Z = unit_vectors(3, 0)
    for name in ("base", "code", "general", "new"):
        arms, weights = router.weights(Z, name)
        assert (arms, weights.tolist()) == ((name,), [[1], [1], [1]])
    with pytest.raises(NotFoundError, match=r'"cod"[^$]*known are base, code'):
        router.weights(Z, "cod")


def test_a_route_explains_itself() -> None:
    """A route has the weights that take part, every score, and the leader with its margin."""
    east, north = np.eye(2, DIMENSIONS, dtype=np.float32)
    router = ArmRouter(PilotHead([Pilot("law", "d", 9, east), Pilot("code", "d", 9, north)]))
    z = unit(0.8 * east + 0.6 * north)
    route = router.route(z, "hard")
    assert route.weights == {"law": 1}
    assert route.scores == pytest.approx({"code": 0.6, "law": 0.8})
    assert route.reason == '"law" is most similar (0.800), 0.200 ahead of "code"'
    longer = router.route(5 * z.astype(np.float64), "hard")
    assert longer.scores == pytest.approx(route.scores)
    short = router.route(z, "hard", explained=False)
    assert (short.weights, short.scores, short.reason) == (route.weights, {}, "")
    assert sum(router.route(z).weights.values()) == pytest.approx(1)
    assert router.route(z, "code").reason == '"code" was asked for'
    alone = ArmRouter(PilotHead([Pilot("law", "d", 9, east)]))
    assert "only expert" in alone.route(z).reason


def test_parameters_out_of_range_are_refused() -> None:
    """Temperature is above 0; standing weights are at least 0 and sum to at most 1, and so on."""
    RouterParameters(0.1, {"a": 0.1, "b": 0.2, "c": 0.7})
    for temperature, standing in ((0.0, {}), (0.1, {"a": -0.1}), (0.1, {"a": 0.7, "b": 0.4})):
        with pytest.raises(InputError):
            RouterParameters(temperature, standing)
    for kept in ({"top": 0}, {"minimum_share": -0.1}, {"minimum_share": 1.1}):
        with pytest.raises(InputError):
            RouterParameters(**kept)


def test_mixing_needs_the_vectors_of_every_arm_with_weight() -> None:
    """A missing arm is named; one without weight is not needed."""
    Z = unit_vectors(2, 0)
    with pytest.raises(NotFoundError, match='"law"'):
        mix(Z, (("base", "law"), np.full((2, 2), 0.5)), {})
    np.testing.assert_allclose(mix(Z, (("base", "law"), np.eye(2)[[0, 0]]), {}), Z, atol=1e-6)


def routing_problems(seed: int) -> tuple[list[Pilot], list[RoutingProblem]]:
    """Two domains whose queries lie apart, each with an expert that undoes the domain's twist."""
    generator = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(250), generator.integers(1, 3, size=250))
    corpus = Corpus(unit_vectors(len(numbers), seed), numbers)
    experts, domains = {}, {}
    for place, name in enumerate(("code", "law")):
        A = generator.normal(0, 0.5, (DIMENSIONS, 3)).astype(np.float32)
        experts[name] = LinearExpert(A, generator.normal(0, 0.5, (3, DIMENSIONS)))
        found = generator.integers(corpus.size, size=40)
        twist = np.linalg.inv(np.eye(DIMENSIONS) + experts[name].A @ experts[name].B)
        noise = generator.normal(0, 0.05, (40, DIMENSIONS)) + np.eye(DIMENSIONS)[place] * 0.3
        Z = unit((corpus.vectors[corpus.starts[found]] @ twist + noise).astype(np.float32))
        domains[name] = (Z, [{int(document): 1} for document in found])
    pilots = [Pilot(name, name, 40, unit(Z.mean(axis=0))) for name, (Z, _) in domains.items()]
    problems = [
        RoutingProblem(
            name, {"base": Z} | {e: x.apply(Z) for e, x in experts.items()}, relevant, corpus
        )
        for name, (Z, relevant) in domains.items()
    ]
    return pilots, problems


@settings(max_examples=10)
@given(seed=st.integers(0, 500))
def test_fitted_figures_are_those_of_exact_ranking(seed: int) -> None:
    """Every row of the table is what mixing and exact ranking of all documents give."""
    pilots, problems = routing_problems(seed)
    fit = fit_soft(
        PilotHead(pilots), problems, temperatures=(0.02, 0.1), standing={"base": (0.0, 0.3)}
    )
    assert len(fit.table) == 4
    for setting in fit.table:
        router = ArmRouter(PilotHead(pilots), setting.parameters)
        for problem in problems:
            Z = problem.vectors["base"]
            mixed = mix(Z, router.weights(Z), problem.vectors)
            exact = ndcg_of(mixed, problem.corpus, problem.relevant).mean()
            assert setting.ndcg[problem.name] == pytest.approx(exact, abs=1e-6)
        assert setting.macro == pytest.approx(np.mean(list(setting.ndcg.values())))


def test_fitting_takes_the_best_setting_whatever_the_order() -> None:
    """The parameters are those of the table's best row, in any order of pilots and problems."""
    pilots, problems = routing_problems(1)
    fit = fit_soft(PilotHead(pilots), problems)
    best = max(setting.macro for setting in fit.table)
    assert next(s for s in fit.table if s.macro == best).parameters == fit.parameters
    assert len(fit.table) == 6 * 4
    turned = fit_soft(PilotHead(pilots[::-1]), problems[::-1])
    assert turned == fit
    with_general = [
        replace(p, vectors={**p.vectors, "general": p.vectors["base"]}) for p in problems
    ]
    assert len(fit_soft(PilotHead(pilots), with_general).table) == 6 * 4 * 5


def test_fitting_refuses_what_it_cannot_use() -> None:
    """Without problems, weights that fit, or an expert's vectors there is nothing to fit."""
    pilots, problems = routing_problems(0)
    with pytest.raises(InputError, match="at least one domain"):
        fit_soft(PilotHead(pilots), [])
    with pytest.raises(InputError, match="at most 1"):
        fit_soft(PilotHead(pilots), problems, standing={"base": (1.5,)})
    with pytest.raises(NotFoundError, match='"other"'):
        fit_soft(PilotHead([replace(pilots[0], expert="other")]), problems)
    with pytest.raises(InputError, match="needs query vectors"):
        replace(problems[0], vectors={"law": problems[0].vectors["law"]})


def test_references_are_centroids_of_what_is_alike() -> None:
    """Few queries stay themselves; many give unit centroids, one for each group of equals."""
    groups = unit_vectors(5, 0)
    generator = np.random.default_rng(1)
    noise = generator.normal(0, 0.01, (300, DIMENSIONS)).astype(np.float32)
    queries = unit(groups[generator.integers(5, size=300)] + noise)
    np.testing.assert_array_equal(references_of(queries[:7], 7), queries[:7])
    found = references_of(queries, 5)
    assert found.shape == (5, DIMENSIONS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose((found @ groups.T).max(axis=0), 1, atol=1e-3)
    np.testing.assert_array_equal(references_of(queries, 5), found)

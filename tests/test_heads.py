"""Heads: what a router knows of a query, by hand-computed examples and by what must not matter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgembed.arm_router import ArmRouter, Fallback, RouterParameters
from pgembed.errors import InputError
from pgembed.heads import (
    ConstantHead,
    Head,
    LinearHead,
    NeighbourHead,
    Pilot,
    PilotHead,
    References,
)
from pgembed.linear_expert import unit
from pgembed.out_of_domain import without

EAST, NORTH, UP = np.eye(3, dtype=np.float32)
QUERY = np.asarray([0.8, 0.6, 0.0], dtype=np.float32)
NAMES = ("art", "code", "law")
UTILITY = {
    "art": {"art": 1.0},
    "code": {"base": 0.5, "code": 0.5},
    "law": {"law": 0.75, "art": 0.25},
}


def unit_vectors(n: int, seed: int) -> np.ndarray:
    """Random directions, float32 (n, 3)."""
    generator = np.random.default_rng(seed)
    return unit(generator.standard_normal((n, 3)).astype(np.float32))


def shares_of(head: Head, z: np.ndarray, temperature: float = 1.0) -> dict[str, float]:
    """Share of each arm for one query."""
    return dict(zip(head.arms, head.shares(z[None], temperature)[0].tolist(), strict=True))


def test_pilots_by_their_mean_or_the_greatest() -> None:
    """Cosines .8 and .6 of one expert, .6 of the other; lengths of pilots do not matter."""
    pilots = [
        Pilot("law", "a", 1, 3 * EAST),
        Pilot("law", "b", 1, NORTH),
        Pilot("art", "a", 1, NORTH),
    ]
    for aggregate, score in (("mean", 0.7), ("max", 0.8)):
        head = PilotHead(pilots, aggregate)  # type: ignore[arg-type]
        assert head.scores(QUERY[None])[0] == pytest.approx([0.6, score])
        expected = 1 / (1 + np.exp((0.6 - score) / 0.1))
        assert shares_of(head, QUERY, 0.1) == pytest.approx({"art": 1 - expected, "law": expected})
    with pytest.raises(InputError, match="mean or max"):
        PilotHead(pilots, "sum")  # type: ignore[arg-type]


def test_linear_functions_are_log_probabilities() -> None:
    """Logits log 6 + 0, 0 + log 3, and 0: probabilities .6, .3 and .1, shared out."""
    directions = np.asarray([[np.log(6), 0, 0], [0, 1, 0], [0, 0, 1]])
    head = LinearHead(("law", "code", "new"), directions, np.asarray([0, np.log(3), 0]), UTILITY)
    assert head.probabilities(EAST[None], 1.0)[0] == pytest.approx([0.6, 0.3, 0.1])
    expected = {"art": 0.15, "base": 0.25, "code": 0.15, "law": 0.45}
    assert shares_of(head, EAST) == pytest.approx(expected)
    assert head.reason(EAST, 1.0) == 'domain "law" is most likely (0.60), then "code" (0.30)'
    assert shares_of(head, EAST, 1e6)["base"] == pytest.approx(0.5, abs=1e-5)


def test_neighbours_vote() -> None:
    """The two nearest of three: cosines .8 and .6."""
    references = np.stack([UP, NORTH, EAST])
    head = NeighbourHead(references, ("art", "code", "law"), UTILITY, neighbours=2)
    assert head.scores(QUERY[None])[0].tolist() == [0, 0.5, 0.5]
    law = 1 / (1 + np.exp(-2))
    assert head.probabilities(QUERY[None], 0.1)[0] == pytest.approx([0, 1 - law, law])
    assert shares_of(head, QUERY, 0.1)["law"] == pytest.approx(0.75 * law)
    assert head.reason(QUERY, 0.1) == 'domain "law" is most likely (0.88), then "code" (0.12)'
    with pytest.raises(InputError, match="at least one neighbour"):
        replace(head, neighbours=0)


def test_constant_weights_are_scaled() -> None:
    """Whatever the query; arms without weight are none."""
    head = ConstantHead({"law": 3, "art": 1, "code": 0})
    assert shares_of(head, QUERY) == {"art": 0.25, "law": 0.75}
    assert head.scores(QUERY[None]).shape == (1, 0)


@pytest.mark.parametrize("twins", [1, 7, 50])
def test_equal_neighbours_are_taken_in_order(twins: int) -> None:
    """Of copies of one vector the earlier vote, however rounding treats the columns."""
    same = unit_vectors(1, 4)[0]
    references = np.stack([same] * (3 * twins))
    rows, similar = References(references).nearest(unit_vectors(5, 1), twins + 1)
    assert rows.tolist() == [list(range(min(twins + 1, 3 * twins)))] * 5
    assert similar.shape == rows.shape
    owners = ("a",) * twins + ("b",) * twins + ("c",) * twins
    head = NeighbourHead(references, owners, {}, neighbours=twins + 1)
    expected = [twins / (twins + 1), 1 / (twins + 1), 0]
    assert head.probabilities(same[None], 0.05)[0] == pytest.approx(expected)


def test_rounding_makes_no_winner() -> None:
    """Experts with the same pilots, in any columns of the product, tie: the first by name wins."""
    for seed in range(20):
        centroids = unit_vectors(3, seed)
        names = [f"expert{n:02}" for n in range(37)]
        head = PilotHead(
            [Pilot(name, str(d), 1, c) for name in names for d, c in enumerate(centroids)]
        )
        router = ArmRouter(head, RouterParameters(top=2))
        arms, weights = router.weights(unit_vectors(9, seed + 1), "hard")
        assert set(np.argmax(weights, axis=1)) == {0}
        arms, weights = router.weights(unit_vectors(9, seed + 1))
        assert {arm for arm, column in zip(arms, weights.T, strict=True) if column.any()} == {
            "expert00",
            "expert01",
        }


def test_what_is_left_out_makes_no_winner() -> None:
    """As in SQL, shares are compared as the head gives them, not as they grow to fill the gap."""
    light = {f"light{n:02}": 0.05 for n in range(16)}
    head = ConstantHead({"a": 0.1, "b": 0.1 + 4e-13, **light})
    Z = unit_vectors(1, 0)
    for top, mode, expected in ((1, "soft", {"a": 1.0}), (None, "hard", {"a": 1.0})):
        router = ArmRouter(head, RouterParameters(top=top, minimum_share=0.9))
        assert router.route(Z[0], mode).weights == expected
    kept = ArmRouter(head, RouterParameters(minimum_share=0.9)).route(Z[0]).weights
    assert kept == {"a": pytest.approx(0.5), "b": pytest.approx(0.5)}


def pilot_head(seed: int, order: Sequence[int] = range(9)) -> PilotHead:
    """Nine pilots of three experts."""
    centroids = unit_vectors(9, seed)
    pilots = [Pilot(NAMES[n % 3], f"d{n // 3}", n + 1, c, n) for n, c in enumerate(centroids)]
    return PilotHead([pilots[n] for n in order])


def linear_head(seed: int, order: Sequence[int] = range(3)) -> LinearHead:
    """Three domains."""
    directions, biases = 4.0 * unit_vectors(3, seed).astype(np.float64), np.asarray([0.1, 0, -0.2])
    names = tuple(NAMES[n] for n in order)
    utility = {name: UTILITY[name] for name in names}
    return LinearHead(names, directions[list(order)], biases[list(order)], utility)


def neighbour_head(seed: int, order: Sequence[int] = range(9)) -> NeighbourHead:
    """Nine training queries of three domains."""
    owners = tuple(NAMES[n % 3] for n in order)
    return NeighbourHead(unit_vectors(9, seed)[list(order)], owners, UTILITY, neighbours=4)


def constant_head(seed: int, order: Sequence[int] = range(3)) -> ConstantHead:
    """Three experts."""
    weights = np.random.default_rng(seed).random(3)
    return ConstantHead({NAMES[n]: float(weights[n]) for n in order})


HEADS: dict[str, tuple[Callable[..., Head], int]] = {
    "pilot": (pilot_head, 9),
    "linear": (linear_head, 3),
    "neighbour": (neighbour_head, 9),
    "constant": (constant_head, 3),
}


@settings(max_examples=30)
@given(
    kind=st.sampled_from(sorted(HEADS)),
    seed=st.integers(0, 500),
    temperature=st.sampled_from([0.005, 0.1, 1.0, 1e3]),
)
def test_shares_sum_to_one_in_any_order(kind: str, seed: int, temperature: float) -> None:
    """And are at least 0; how pilots, domains or training queries are ordered does not matter."""
    make, count = HEADS[kind]
    Z = unit_vectors(6, seed + 1)
    head = make(seed)
    shares = head.shares(Z, temperature)
    assert shares.shape == (6, len(head.arms))
    assert (shares >= 0).all()
    assert shares.sum(axis=1) == pytest.approx(np.ones(6))
    turned = make(seed, np.random.default_rng(seed).permutation(count).tolist())
    assert turned.arms == head.arms == tuple(sorted(head.arms))
    np.testing.assert_allclose(turned.shares(Z, temperature), shares, atol=1e-9)


@settings(max_examples=30)
@given(kind=st.sampled_from(["pilot", "neighbour"]), seed=st.integers(0, 500))
def test_a_domain_that_is_left_out_is_as_if_never_added(kind: str, seed: int) -> None:
    """With its experts; what is left is the head of the others."""
    Z = unit_vectors(6, seed + 1)
    made = HEADS[kind][0](seed)
    if isinstance(made, PilotHead):
        left = without(made, "d1", {"law"})
        never: Head = PilotHead([p for p in made.pilots if p.domain != "d1" and p.expert != "law"])
    else:
        assert isinstance(made, NeighbourHead)
        left = without(made, "law", {"code"})
        kept = [n for n, owner in enumerate(made.owners) if owner != "law"]
        utility = {"art": {"art": 1.0}, "code": {"base": 1.0}}
        owners = tuple(made.owners[n] for n in kept)
        never = NeighbourHead(made.references[kept], owners, utility, 4)
    assert left.arms == never.arms
    np.testing.assert_allclose(left.shares(Z, 0.1), never.shares(Z, 0.1), atol=1e-12)


EMPTY: list[tuple[Head, str]] = [
    (PilotHead([]), "no expert has pilot embeddings"),
    (LinearHead((), np.zeros((0, 3)), np.zeros(0), {}), "the router knows no domain"),
    (NeighbourHead(np.zeros((0, 3), np.float32), (), {}), "the router knows no domain"),
    (ConstantHead({}), "the router has no active expert"),
]


@pytest.mark.parametrize(("head", "reason"), EMPTY)
def test_an_empty_head_leaves_queries_to_base(head: Head, reason: str) -> None:
    """And says so."""
    for mode in ("soft", "hard"):
        route = ArmRouter(head).route(QUERY, mode)
        assert (route.weights, route.scores) == ({"base": 1}, {})
        assert route.reason == f"{reason}, so the base answers"


def test_routes_of_domains_and_of_no_matter_what_are_explained() -> None:
    """By the kind of the head, and by the fallback where there is one."""
    alone = NeighbourHead(EAST[None], ("law",), UTILITY)
    away = Fallback(0.9, 0.1, EAST[None])
    route = ArmRouter(alone, fallback=away).route(EAST)
    assert route.scores == {"law": 1}
    assert route.reason == (
        'domain "law" is most likely (1.00); similarity to judged queries 1.000: 73% in domain'
    )
    constant = ArmRouter(ConstantHead({"law": 1})).route(EAST)
    assert constant.reason == "the router gives every query the same experts"


def test_unusable_fallbacks_are_refused() -> None:
    """A width of 0, and weights that do not sum to 1."""
    with pytest.raises(InputError, match="width"):
        Fallback(0.5, 0, EAST[None])
    for weights in ({"base": 0.5}, {"base": 2.0, "law": -1.0}, {}):
        with pytest.raises(InputError, match="sum to 1"):
            Fallback(0.5, 0.1, EAST[None], weights)

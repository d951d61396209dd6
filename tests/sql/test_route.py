"""pgembed.route."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, LiteralString

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from psycopg.types.json import Jsonb

from pgembed.database import Connection
from pgembed.errors import InputError, NotFoundError
from pgembed.linear_expert import LinearExpert
from pgembed.routing import load_router
from tests.sql.support import FINGERPRINT, as_literal, refused, register_plain_encoder

DIMENSIONS = 6
EXPERTS = ("alpha", "beta", "Beta", "gamma", "\u00e9 'quoted\"")
DOMAINS = ("d", "D", "e", "\u00e9", "z")
KINDS = ("pilot", "lda", "logistic", "knn", "utility", "fixed", "uniform")
QUERY = as_literal([1.0, 0, 0, 0, 0, 0])

Row = tuple[Any, ...]


@dataclass
class World:
    """The rows and parameters of a router, as a test case has them."""

    pilots: list[tuple[str, str, list[float]]] = field(default_factory=list)
    """Expert, domain, centroid."""
    temperature: float | None = None
    standing: dict[str, float] = field(default_factory=dict)
    retired: set[str] = field(default_factory=set)
    installed: bool = True
    kind: str = "pilot"
    more: dict[str, Any] = field(default_factory=dict)
    """Other parameters."""
    domains: list[tuple[str, list[float], float]] = field(default_factory=list)
    """Domain, direction, bias."""
    utility: list[tuple[str, str, float | None, float]] = field(default_factory=list)
    """Domain, expert, gain, share."""
    queries: list[tuple[str, list[float]]] = field(default_factory=list)
    """Domain, embedding of a training query."""

    @property
    def parameters(self) -> dict[str, Any]:
        """As they are installed."""
        given = {"standing": self.standing} if self.standing else {}
        warm = {} if self.temperature is None else {"temperature": self.temperature}
        return {**given, **warm, **self.more}

    def without(self, expert: str) -> World:
        """As if an expert had never been added."""
        return replace(
            self,
            pilots=[row for row in self.pilots if row[0] != expert],
            utility=[row for row in self.utility if row[1] != expert],
        )


def unit_vector(seed: int) -> NDArray[np.float32]:
    """A random direction."""
    vector = np.random.default_rng(seed).standard_normal(DIMENSIONS)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


seeds = st.integers(0, 12)
"""Few, so that pilots, training queries and queries are often the same."""
vectors = seeds.map(lambda seed: unit_vector(seed).tolist())
arms = st.sampled_from([*EXPERTS, "base"])
shares = st.sampled_from([0.0, 0.0, 0.05, 0.25, 0.5, 1.0])
gains = st.sampled_from([None, -0.2, 0.0, 0.01, 0.1, 0.1])


@st.composite
def mixtures(draw: st.DrawFn) -> dict[str, float]:
    """Weights by expert, some of experts that are unknown, not all 0."""
    named = st.sampled_from([*EXPERTS, "base", "unknown"])
    weight = st.sampled_from([0.0, 0.1, 0.2, 0.3, 1.0, 3.0])
    return draw(st.dictionaries(named, weight, min_size=1).filter(lambda w: any(w.values())))


@st.composite
def standing_weights(draw: st.DrawFn) -> dict[str, float]:
    """Weights that sum to at most 1."""
    weights = draw(st.lists(st.integers(0, 10).map(lambda n: n / 10), max_size=3))
    total = max(1.0, sum(weights))
    names = draw(st.permutations([*EXPERTS, "base", "unknown"]))
    return {name: weight / total for name, weight in zip(names, weights, strict=False)}


@st.composite
def worlds(draw: st.DrawFn, kinds: Sequence[str] = KINDS) -> World:
    """A router of any kind with rows of every table, its own and others'."""
    kind = draw(st.sampled_from(kinds))
    more: dict[str, Any] = {}
    for name, values in {
        "aggregate": ["mean", "max"],
        "top": [1, 2, 9],
        "minimum_share": [0, 0.05, 0.5, 1],
        "posterior": ["lda", "knn"],
        "neighbours": [1, 3, 10],
    }.items():
        if (value := draw(st.sampled_from([None, *values]))) is not None:
            more[name] = value
    if kind == "fixed":
        more["weights"] = draw(mixtures())
    if draw(st.booleans()):
        more["fallback"] = {
            "threshold": draw(st.sampled_from([-1.0, 0.0, 0.3, 0.7, 1.0, 1.2])),
            "width": draw(st.sampled_from([1e-6, 0.02, 1.0])),
            "weights": draw(mixtures()),
        }
    names = st.sampled_from(DOMAINS)
    keys = draw(st.lists(st.tuples(names, arms), unique=True, max_size=12))
    return World(
        pilots=draw(st.lists(st.tuples(arms, names, vectors), max_size=10)),
        temperature=draw(st.sampled_from([None, 0.0005, 0.05, 0.3, 5.0, 200.0])),
        standing=draw(standing_weights()),
        retired=set(draw(st.lists(st.sampled_from(EXPERTS), max_size=2))),
        installed=draw(st.sampled_from([True] * 9 + [False])),
        kind=kind,
        more=more,
        domains=draw(
            st.lists(
                st.tuples(names, vectors, st.sampled_from([-1.0, 0.0, 0.3])),
                unique_by=lambda row: row[0],
            )
        ),
        utility=[(domain, arm, draw(gains), draw(shares)) for domain, arm in keys],
        queries=draw(st.lists(st.tuples(names, vectors), max_size=25)),
    )


@pytest.fixture
def routed_encoder(shared: Connection) -> Connection:
    """An encoder with all experts, for worlds to be built on."""
    register_plain_encoder(shared, "routed", DIMENSIONS)
    none = np.zeros((DIMENSIONS, 1), dtype=np.float32)
    artifact = LinearExpert(none, none.T.copy()).to_bytes()
    for name in EXPERTS:
        shared.execute(
            "select pgembed.register_expert('routed', %s, 'linear', %s, %s)",
            (name, FINGERPRINT, artifact),
        )
    return shared


def install(connection: Connection, world: World) -> None:
    """Put a world into the database."""
    if world.installed:
        connection.execute(
            "select pgembed.set_router('routed', %s, %s)", (world.kind, Jsonb(world.parameters))
        )
    for number, (expert, domain, centroid) in enumerate(world.pilots):
        row = (expert, domain, number + 1, as_literal(centroid), number)
        connection.execute(
            "insert into pgembed.pilot values ('routed', %s, %s, %s, %s::vector, %s)", row
        )
    if world.installed:
        for statement, rows in _rows(world):
            for row in rows:
                connection.execute(statement, row)
    for name in world.retired:
        connection.execute("select pgembed.retire_expert('routed', %s)", (name,))


def _rows(world: World) -> Iterator[tuple[LiteralString, list[Row]]]:
    yield (
        "insert into pgembed.router_domain values ('routed', %s, %s::vector, %s, 1)",
        [(domain, as_literal(direction), bias) for domain, direction, bias in world.domains],
    )
    yield (
        "insert into pgembed.utility (encoder, domain, expert, gain, share)"
        " values ('routed', %s, %s, %s, %s)",
        list(world.utility),
    )
    yield (
        "insert into pgembed.router_reference values ('routed', %s, %s, %s::vector)",
        [(domain, n, as_literal(vector)) for n, (domain, vector) in enumerate(world.queries)],
    )


def routed(
    connection: Connection, query: str, mode: str = "soft"
) -> dict[str, tuple[float, float | None]]:
    """Weight and score by expert."""
    rows = connection.execute(
        "select expert, weight, score from pgembed.route('routed', %s::vector, %s)", (query, mode)
    ).fetchall()
    return {expert: (weight, score) for expert, weight, score in rows}


def weights_of(connection: Connection, query: str, mode: str = "soft") -> dict[str, float]:
    """Weight by expert."""
    return {expert: weight for expert, (weight, _) in routed(connection, query, mode).items()}


def assert_same_weights(one: Mapping[str, float], other: Mapping[str, float]) -> None:
    """To 1e-6, and 0 where the other has 0."""
    assert sum(one.values()) == pytest.approx(1, abs=1e-9)
    assert sum(other.values()) == pytest.approx(1, abs=1e-9)
    for name in {*one, *other}:
        assert one.get(name, 0) == pytest.approx(other.get(name, 0), abs=1e-6)


def many_worlds(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """What the tests of random worlds share."""
    fixture = HealthCheck.function_scoped_fixture
    return settings(max_examples=examples, suppress_health_check=[fixture])


@many_worlds(120)
@given(world=worlds(), seed=st.integers(0, 30))
def test_route_is_the_client_s_route(routed_encoder: Connection, world: World, seed: int) -> None:
    """SQL and Python choose the same experts with the same weights, of every kind and mode."""
    connection = routed_encoder
    with connection.transaction(force_rollback=True):
        install(connection, world)
        router = load_router(connection, "routed")
        z = unit_vector(seed)
        for mode in ("soft", "hard", "base", EXPERTS[seed % len(EXPERTS)]):
            if mode in world.retired:
                refused(
                    connection,
                    NotFoundError,
                    "select pgembed.route('routed', %s::vector, %s)",
                    (as_literal(z), mode),
                )
                with pytest.raises(NotFoundError):
                    router.route(z, mode)
                continue
            assert_same_weights(
                weights_of(connection, as_literal(z), mode), router.route(z, mode).weights
            )


@many_worlds(40)
@given(world=worlds(), seed=st.integers(0, 30), gone=st.sampled_from(EXPERTS))
def test_a_removed_expert_is_as_if_never_added(
    routed_encoder: Connection, world: World, seed: int, gone: str
) -> None:
    """Deleted or retired, of every kind: the others' weights are those of a router without it."""
    connection, query = routed_encoder, as_literal(unit_vector(seed))
    routes = []
    for built, statement in (
        (world, "delete from pgembed.expert where encoder = 'routed' and name = %s"),
        (world, "select pgembed.retire_expert('routed', %s)"),
        (world.without(gone), "delete from pgembed.expert where encoder = 'routed' and name = %s"),
    ):
        with connection.transaction(force_rollback=True):
            install(connection, built)
            connection.execute(statement, (gone,))
            routes.append([weights_of(connection, query, mode) for mode in ("soft", "hard")])
    for route in routes[1:]:
        for weights, expected in zip(route, routes[0], strict=True):
            assert gone not in weights
            assert_same_weights(weights, expected)


@pytest.mark.parametrize("scale", [0.001, 3.0])
@pytest.mark.parametrize("kind", ["pilot", "lda", "knn"])
def test_length_of_the_query_does_not_matter(
    routed_encoder: Connection, kind: str, scale: float
) -> None:
    """A query is a direction."""
    x, y = ([1.0, 0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0, 0])
    world = World(
        [("alpha", "d", x), ("beta", "e", y)],
        temperature=1.0,
        kind=kind,
        domains=[("d", x, 0.0), ("e", y, 0.0)],
        utility=[("d", "alpha", 0.1, 1.0), ("e", "beta", 0.1, 1.0)],
        queries=[("d", x), ("e", y)],
    )
    install(routed_encoder, world)
    z = np.asarray([0.8, 0.6, 0, 0, 0, 0])
    share = 1 / (1 + np.exp(-0.2))
    for query in (z, scale * z):
        weights = weights_of(routed_encoder, as_literal(query))
        assert weights == pytest.approx({"alpha": share, "beta": 1 - share}, abs=1e-6)


def test_domains_share_out_to_their_experts(routed_encoder: Connection) -> None:
    """Probability of the domain times the expert's share; a domain without experts is base's."""
    world = World(
        temperature=1.0,
        kind="utility",
        domains=[
            ("d", [np.log(6), 0, 0, 0, 0, 0], 0.0),
            ("e", [0, 1, 0, 0, 0, 0], float(np.log(3))),
            ("f", [0, 1, 0, 0, 0, 0], 0.0),
        ],
        utility=[
            ("d", "alpha", 0.1, 0.5),
            ("d", "base", 0.0, 0.5),
            ("e", "beta", 0.1, 0.25),
            ("e", "gamma", 0.0, 0.0),
        ],
    )
    install(routed_encoder, world)
    expected = {"alpha": 0.3, "base": 0.4, "beta": 0.3}
    assert weights_of(routed_encoder, QUERY) == pytest.approx(expected, abs=1e-6)
    assert routed(routed_encoder, QUERY)["alpha"][1] is None


def test_neighbours_vote_by_their_similarity(routed_encoder: Connection) -> None:
    """The two nearest of three vote, with weights of a softmax."""
    near, far, away = ([1.0, 0, 0, 0, 0, 0], [0.6, 0.8, 0, 0, 0, 0], [0, 0, 1.0, 0, 0, 0])
    world = World(
        temperature=0.4,
        kind="knn",
        more={"neighbours": 2},
        utility=[("d", "alpha", 0.1, 1.0), ("e", "beta", 0.1, 1.0), ("z", "gamma", 0.1, 1.0)],
        queries=[("e", far), ("z", away), ("d", near)],
    )
    install(routed_encoder, world)
    share = 1 / (1 + np.exp(-1.0))
    expected = {"alpha": share, "beta": 1 - share}
    assert weights_of(routed_encoder, QUERY) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("twins", [3, 40])
def test_equal_neighbours_vote_by_domain_and_number(routed_encoder: Connection, twins: int) -> None:
    """However many there are, and in whatever order they were stored."""
    same = unit_vector(3).tolist()
    queries = [(domain, same) for _ in range(twins) for domain in ("e", "D", "d")]
    world = World(
        kind="knn",
        more={"neighbours": twins + 1},
        utility=[("d", "alpha", 0.1, 1.0), ("D", "beta", 0.1, 1.0), ("e", "gamma", 0.1, 1.0)],
        queries=queries,
    )
    install(routed_encoder, world)
    expected = {"beta": twins / (twins + 1), "alpha": 1 / (twins + 1)}
    assert weights_of(routed_encoder, as_literal(same)) == pytest.approx(expected, abs=1e-6)
    route = load_router(routed_encoder, "routed").route(unit_vector(3))
    assert route.weights == pytest.approx(expected, abs=1e-6)


def test_the_next_best_expert_takes_the_domain_of_a_retired_one(
    routed_encoder: Connection,
) -> None:
    """By its gain, and only if it is better than base; base is no worse than nobody."""
    world = World(
        kind="lda",
        domains=[("d", [1, 0, 0, 0, 0, 0], 0.0)],
        utility=[
            ("d", "alpha", 0.2, 1.0),
            ("d", "gamma", 0.1, 0.0),
            ("d", "beta", 0.1, 0.0),
            ("d", "Beta", -0.1, 0.0),
            ("d", "base", 0.0, 0.0),
        ],
    )
    install(routed_encoder, world)
    for expected in ("alpha", "beta", "gamma", "base"):
        assert weights_of(routed_encoder, QUERY) == {expected: 1}
        assert load_router(routed_encoder, "routed").route(unit_vector(0)).weights == {expected: 1}
        if expected != "base":
            routed_encoder.execute("select pgembed.retire_expert('routed', %s)", (expected,))


def test_only_the_heaviest_are_kept(routed_encoder: Connection) -> None:
    """``top`` counts experts of the head, equal ones by name; standing experts are beside them."""
    world = World(
        kind="fixed",
        standing={"Beta": 0.5},
        more={"top": 2, "weights": {"alpha": 1, "beta": 2, "gamma": 1, "base": 1}},
    )
    install(routed_encoder, world)
    expected = {"Beta": 0.5, "alpha": 1 / 6, "beta": 1 / 3}
    assert weights_of(routed_encoder, QUERY) == pytest.approx(expected)


def test_light_experts_are_left_out(routed_encoder: Connection) -> None:
    """``minimum_share`` is a part of the heaviest share, just reached is enough, before ``top``."""
    weights = {"alpha": 8, "beta": 4, "gamma": 3, "base": 1}
    world = World(kind="fixed", standing={"base": 0.25}, more={"weights": weights})
    for more, expected in (
        ({"minimum_share": 0.5}, {"alpha": 2 / 3, "beta": 1 / 3}),
        ({"minimum_share": 0.3}, {"alpha": 8 / 15, "beta": 4 / 15, "gamma": 3 / 15}),
        ({"minimum_share": 0.3, "top": 2}, {"alpha": 2 / 3, "beta": 1 / 3}),
        ({"minimum_share": 1}, {"alpha": 1}),
    ):
        wanted = {name: 0.75 * share for name, share in expected.items()} | {"base": 0.25}
        with routed_encoder.transaction(force_rollback=True):
            install(routed_encoder, replace(world, more=world.more | more))
            assert weights_of(routed_encoder, QUERY) == pytest.approx(wanted)
            route = load_router(routed_encoder, "routed").route(unit_vector(0))
            assert route.weights == pytest.approx(wanted)


def test_queries_out_of_domain_fall_back(routed_encoder: Connection) -> None:
    """Soft hands over gently, hard at the threshold; without training queries nothing is handed."""
    world = World(
        [("alpha", "d", [1, 0, 0, 0, 0, 0])],
        standing={"gamma": 0.5},
        more={"fallback": {"threshold": 0.5, "width": 0.1, "weights": {"beta": 3, "base": 1}}},
        queries=[("d", [1, 0, 0, 0, 0, 0])],
    )
    install(routed_encoder, world)
    at, above, below = ([0.5, 0.75**0.5], [0.51, 1], [0.49, 1])
    query = as_literal([*at, 0, 0, 0, 0])
    expected = {"alpha": 0.25, "gamma": 0.25, "beta": 0.375, "base": 0.125}
    assert weights_of(routed_encoder, query) == pytest.approx(expected, abs=1e-6)
    assert weights_of(routed_encoder, query, "hard") == {"alpha": 1}
    for (x, _), expert in ((above, "alpha"), (below, "beta")):
        query = as_literal([x, (1 - x * x) ** 0.5, 0, 0, 0, 0])
        assert weights_of(routed_encoder, query, "hard") == {expert: 1}
    routed_encoder.execute("select pgembed.retire_expert('routed', 'beta')")
    assert weights_of(routed_encoder, query, "hard") == {"base": 1}
    routed_encoder.execute("delete from pgembed.router_reference")
    assert weights_of(routed_encoder, query) == {"alpha": 0.5, "gamma": 0.5}


def test_scores_are_mean_similarities(routed_encoder: Connection) -> None:
    """Score is the mean cosine similarity to an expert's pilots; standing arms may have none."""
    world = World(
        [("alpha", "d", [1, 0, 0, 0, 0, 0]), ("alpha", "e", [0, 2, 0, 0, 0, 0])],
        standing={"base": 0.25},
    )
    install(routed_encoder, world)
    assert routed(routed_encoder, QUERY) == {
        "alpha": (pytest.approx(0.75), pytest.approx(0.5)),
        "base": (pytest.approx(0.25), None),
    }
    assert routed(routed_encoder, QUERY, "hard") == {"alpha": (1, pytest.approx(0.5))}


def test_without_pilots_the_base_answers(routed_encoder: Connection) -> None:
    """A fresh encoder routes to its base; what standing experts leave goes there too."""
    install(routed_encoder, World(installed=False))
    for mode in ("soft", "hard", "base"):
        assert routed(routed_encoder, QUERY, mode) == {"base": (1, None)}
    routed_encoder.execute(
        "select pgembed.set_router('routed', 'pilot', %s)", (Jsonb({"standing": {"alpha": 0.3}}),)
    )
    assert routed(routed_encoder, QUERY) == {
        "alpha": (0.3, None),
        "base": (pytest.approx(0.7), None),
    }


def test_ties_go_to_the_first_name(routed_encoder: Connection) -> None:
    """Of equally similar experts hard takes the first by code point, whatever was inserted first."""
    centroid = [1.0, 0, 0, 0, 0, 0]
    for order in itertools.islice(itertools.permutations(("beta", "Beta", "alpha")), 3):
        with routed_encoder.transaction(force_rollback=True):
            install(routed_encoder, World([(name, "d", centroid) for name in order]))
            assert list(routed(routed_encoder, QUERY, "hard")) == ["Beta"]
            assert list(
                load_router(routed_encoder, "routed").route(unit_vector(1), "hard").weights
            ) == ["Beta"]
            assert [w for w, _ in routed(routed_encoder, QUERY).values()] == [
                pytest.approx(1 / 3)
            ] * 3


def test_a_retired_expert_has_no_part(routed_encoder: Connection) -> None:
    """Its pilots do not count, its standing share goes to the others, its name is refused."""
    world = World(
        [("alpha", "d", [1, 0, 0, 0, 0, 0]), ("beta", "d", [0, 1, 0, 0, 0, 0])],
        standing={"alpha": 0.5},
        retired={"alpha"},
    )
    install(routed_encoder, world)
    assert routed(routed_encoder, QUERY) == {"beta": (1, pytest.approx(0))}
    statement = "select pgembed.route('routed', %s::vector, 'alpha')"
    refused(routed_encoder, NotFoundError, statement, (QUERY,))


def test_unknown_names_are_refused(routed_encoder: Connection) -> None:
    """The error lists modes and experts; an unknown encoder is named."""
    install(routed_encoder, World())
    for mode in ("nope", "Soft", "", None):
        error = refused(
            routed_encoder,
            NotFoundError,
            "select pgembed.route('routed', %s::vector, %s)",
            (QUERY, mode),
        )
        assert "soft, hard" in str(error.hint)
        assert "alpha" in str(error.hint)
    refused(routed_encoder, NotFoundError, "select pgembed.route('nope', %s::vector)", (QUERY,))


def test_query_must_have_a_direction(routed_encoder: Connection) -> None:
    """Null, wrong dimensions and zero are refused rather than routed by NaN."""
    install(routed_encoder, World([("alpha", "d", [1, 0, 0, 0, 0, 0])]))
    for query in (None, "[1, 2]", "[0, 0, 0, 0, 0, 0]"):
        refused(routed_encoder, InputError, "select pgembed.route('routed', %s::vector)", (query,))

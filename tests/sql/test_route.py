"""pgembed.route."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

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
QUERY = as_literal([1.0, 0, 0, 0, 0, 0])


@dataclass
class World:
    """Experts, their pilots and the router's parameters, as a test case has them."""

    pilots: list[tuple[str, str, list[float]]] = field(default_factory=list)
    temperature: float | None = None
    standing: dict[str, float] = field(default_factory=dict)
    retired: set[str] = field(default_factory=set)
    installed: bool = True


def unit_vector(seed: int) -> NDArray[np.float32]:
    """A random direction."""
    vector = np.random.default_rng(seed).standard_normal(DIMENSIONS)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Any number of pilots for any of the experts, standing weights that sum to at most 1."""
    names = st.sampled_from([*EXPERTS, "base"])
    keys = draw(st.lists(st.tuples(names, st.sampled_from(["d", "e", "f"])), unique=True))
    pilots = [
        (name, domain, unit_vector(draw(st.integers(0, 50))).tolist()) for name, domain in keys
    ]
    weights = draw(st.lists(st.floats(0, 1), max_size=3))
    total = max(1.0, sum(weights))
    standing = dict(
        zip(draw(st.permutations([*EXPERTS, "base", "unknown"])), weights, strict=False)
    )
    return World(
        pilots=pilots,
        temperature=draw(st.sampled_from([None, 0.0005, 0.05, 0.3, 5.0])),
        standing={name: weight / total for name, weight in standing.items()},
        retired=set(draw(st.lists(st.sampled_from(EXPERTS), max_size=2))),
        installed=draw(st.booleans()),
    )


def build(connection: Connection, world: World) -> None:
    """Put a world into the database."""
    register_plain_encoder(connection, "routed", DIMENSIONS)
    none = np.zeros((DIMENSIONS, 1), dtype=np.float32)
    artifact = LinearExpert(none, none.T.copy()).to_bytes()
    for name in EXPERTS:
        connection.execute(
            "select pgembed.register_expert('routed', %s, 'linear', %s, %s)",
            (name, FINGERPRINT, artifact),
        )
    if world.installed:
        parameters: dict[str, object] = {"standing": world.standing} if world.standing else {}
        if world.temperature is not None:
            parameters["temperature"] = world.temperature
        connection.execute("select pgembed.set_router('routed', 'pilot', %s)", (Jsonb(parameters),))
    for number, (name, domain, centroid) in enumerate(world.pilots):
        connection.execute(
            "insert into pgembed.pilot values ('routed', %s, %s, %s, %s::vector)",
            (name, domain, number + 1, as_literal(centroid)),
        )
    for name in world.retired:
        connection.execute("select pgembed.retire_expert('routed', %s)", (name,))


def routed(
    connection: Connection, query: str, mode: str = "soft"
) -> dict[str, tuple[float, float | None]]:
    """Weight and score by expert."""
    rows = connection.execute(
        "select expert, weight, score from pgembed.route('routed', %s::vector, %s)", (query, mode)
    ).fetchall()
    return {expert: (weight, score) for expert, weight, score in rows}


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(world=worlds(), seed=st.integers(100, 130))
def test_route_is_the_client_s_route(shared: Connection, world: World, seed: int) -> None:
    """SQL and Python choose the same experts with the same weights, in every mode."""
    with shared.transaction(force_rollback=True):
        build(shared, world)
        router = load_router(shared, "routed")
        z = unit_vector(seed)
        for mode in ("soft", "hard", "base", *EXPERTS):
            if mode in world.retired:
                refused(
                    shared,
                    NotFoundError,
                    "select pgembed.route('routed', %s::vector, %s)",
                    (as_literal(z), mode),
                )
                with pytest.raises(NotFoundError):
                    router.route(z, mode)
                continue
            in_sql = {
                name: weight for name, (weight, _) in routed(shared, as_literal(z), mode).items()
            }
            in_python = router.route(z, mode).weights
            # Single precision in pgvector: a similarity is off by 1e-7, divided by the temperature.
            tolerance = max(1e-6, 1e-6 * 0.05 / (world.temperature or 0.05))
            assert sum(in_sql.values()) == pytest.approx(1, abs=1e-9)
            for name in {*in_sql, *in_python}:
                assert in_sql.get(name, 0) == pytest.approx(in_python.get(name, 0), abs=tolerance)
            assert {n for n, w in in_sql.items() if w > 1e-9} == {
                n for n, w in in_python.items() if w > 1e-9
            }


def test_scores_are_mean_similarities(shared: Connection) -> None:
    """Score is the mean cosine similarity to an expert's pilots; standing arms may have none."""
    world = World(
        [("alpha", "d", [1, 0, 0, 0, 0, 0]), ("alpha", "e", [0, 2, 0, 0, 0, 0])],
        standing={"base": 0.25},
    )
    build(shared, world)
    assert routed(shared, QUERY) == {
        "alpha": (pytest.approx(0.75), pytest.approx(0.5)),
        "base": (pytest.approx(0.25), None),
    }
    assert routed(shared, QUERY, "hard") == {"alpha": (1, pytest.approx(0.5))}


def test_without_pilots_the_base_answers(shared: Connection) -> None:
    """A fresh encoder routes to its base; what standing experts leave goes there too."""
    build(shared, World(installed=False))
    for mode in ("soft", "hard", "base"):
        assert routed(shared, QUERY, mode) == {"base": (1, None)}
    shared.execute(
        "select pgembed.set_router('routed', 'pilot', %s)", (Jsonb({"standing": {"alpha": 0.3}}),)
    )
    assert routed(shared, QUERY) == {"alpha": (0.3, None), "base": (pytest.approx(0.7), None)}


def test_ties_go_to_the_first_name(shared: Connection) -> None:
    """Of equally similar experts hard takes the first by code point, whatever was inserted first."""
    centroid = [1.0, 0, 0, 0, 0, 0]
    for order in itertools.islice(itertools.permutations(("beta", "Beta", "alpha")), 3):
        with shared.transaction(force_rollback=True):
            build(shared, World([(name, "d", centroid) for name in order]))
            assert list(routed(shared, QUERY, "hard")) == ["Beta"]
            assert list(load_router(shared, "routed").route(unit_vector(1), "hard").weights) == [
                "Beta"
            ]
            assert [w for w, _ in routed(shared, QUERY).values()] == [pytest.approx(1 / 3)] * 3


def test_a_retired_expert_has_no_part(shared: Connection) -> None:
    """Its pilots do not count, its standing share goes to the others, its name is refused."""
    world = World(
        [("alpha", "d", [1, 0, 0, 0, 0, 0]), ("beta", "d", [0, 1, 0, 0, 0, 0])],
        standing={"alpha": 0.5},
        retired={"alpha"},
    )
    build(shared, world)
    assert routed(shared, QUERY) == {"beta": (1, pytest.approx(0))}
    statement = "select pgembed.route('routed', %s::vector, 'alpha')"
    refused(shared, NotFoundError, statement, (QUERY,))


def test_unknown_names_are_refused(shared: Connection) -> None:
    """The error lists modes and experts; an unknown encoder is named."""
    build(shared, World())
    for mode in ("nope", "Soft", "", None):
        error = refused(
            shared, NotFoundError, "select pgembed.route('routed', %s::vector, %s)", (QUERY, mode)
        )
        assert "soft, hard" in str(error.hint)
        assert "alpha" in str(error.hint)
    refused(shared, NotFoundError, "select pgembed.route('nope', %s::vector)", (QUERY,))


def test_query_must_have_a_direction(shared: Connection) -> None:
    """Null, wrong dimensions and zero are refused rather than routed by NaN."""
    build(shared, World([("alpha", "d", [1, 0, 0, 0, 0, 0])]))
    for query in (None, "[1, 2]", "[0, 0, 0, 0, 0, 0]"):
        refused(shared, InputError, "select pgembed.route('routed', %s::vector)", (query,))

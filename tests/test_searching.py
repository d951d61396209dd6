"""pgembed.searching: text or vector in, hits out, and errors that help."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from pgvector.psycopg import register_vector
from psycopg.rows import dict_row

from pgembed.database import Connection, connect
from pgembed.encoders import Encoder, open_encoder
from pgembed.errors import (
    FilterError,
    FingerprintError,
    InputError,
    NotFoundError,
    PgembedError,
    SchemaError,
)
from pgembed.experts import register_expert, retire_expert
from pgembed.linear_expert import LinearExpert
from pgembed.model import Hit, Mode
from pgembed.registry import open_registered, registered_encoder
from pgembed.router import Router
from pgembed.routing import current_router, load_router
from pgembed.searching import explain, search
from tests.conftest import with_database
from tests.encoders.tiny import make_tiny_encoder


@pytest.fixture
def tiny(shared: Connection) -> Encoder:
    """The encoder of the papers."""
    return open_registered(shared, "tiny")


@pytest.fixture
def routed(shared: Connection) -> Connection:
    """The papers with two experts and a router: fruit queries go to one, traffic to the other."""
    install_router(shared)
    return shared


def turning(seed: int, strength: float = 0.3) -> LinearExpert:
    """An expert that turns every query a little, each seed another way."""
    random = np.random.default_rng(seed)
    A = random.standard_normal((32, 4)).astype(np.float32)
    B = strength * random.standard_normal((4, 32)).astype(np.float32)
    return LinearExpert(A, B)


def install_router(connection: Connection, temperature: float = 0.05) -> None:
    """Experts ``fruit`` and ``traffic``, each with one pilot: the direction of a typical query."""
    encoder = open_registered(connection, "tiny")
    spec = registered_encoder(connection, "tiny")
    for seed, name in enumerate(("fruit", "traffic")):
        register_expert(connection, spec, name, turning(seed), domain=name)
    connection.execute(
        "select pgembed.set_router('tiny', 'pilot', jsonb_build_object("
        " 'temperature', %s::float8, 'standing', jsonb_build_object('base', 0.25)))",
        (temperature,),
    )
    pilots = encoder.encode_query(["red apple and green pear", "fast car and slow train"])
    for name, pilot in zip(("fruit", "traffic"), pilots, strict=True):
        connection.execute(
            "insert into pgembed.pilot values ('tiny', %s, %s, 10, pgembed.as_vector(%s::real[]))",
            (name, name, pilot.tolist()),
        )


def keys(hits: list[Hit]) -> list[str]:
    """Keys in the order of the hits."""
    return [hit.key for hit in hits]


def in_sql(connection: Connection, text: str, mode: Mode, k: int = 10) -> list[str]:
    """The keys that SQL finds for a query whose experts are mixed as pgembed.route says."""
    z = open_registered(connection, "tiny").encode_query([text])[0]
    weights = connection.execute(
        "select expert, weight from pgembed.route('tiny', pgembed.as_vector(%s::real[]), %s)",
        (z.tolist(), mode),
    ).fetchall()
    experts = load_router(connection, "tiny").experts
    arms = {"base": z, **{name: expert.apply(z) for name, expert in experts.items()}}
    mixed = np.sum([weight * arms[expert] for expert, weight in weights], axis=0)
    rows = connection.execute(
        "select key from pgembed.search('papers', pgembed.as_vector(%s::real[]), %s) order by rank",
        ((mixed / np.linalg.norm(mixed)).tolist(), k),
    ).fetchall()
    return [key for (key,) in rows]


# What comes back.


def test_the_best_match_comes_first(shared: Connection) -> None:
    """Hits are ranked from 1 by falling score, with the chunk that matched."""
    hits = search(shared, "papers", "red apple number 42", k=5)
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits[0].content.startswith("red apple number 42")
    assert all(hit.chunk_no == 0 and hit.dense_score == hit.score for hit in hits)
    assert all(hit.lexical_score is None for hit in hits)


def test_a_vector_searches_like_the_text_that_it_encodes(shared: Connection, tiny: Encoder) -> None:
    """As an array of any type, a list or at any length: its direction is what counts."""
    z = tiny.encode_query(["deep ocean"])[0]
    expected = search(shared, "papers", "deep ocean", mode="base")
    for vector in (z, z.astype(np.float64), 1e6 * z, 1e-9 * z, z.tolist(), np.repeat(z, 2)[::2]):
        found = search(shared, "papers", vector)
        assert keys(found) == keys(expected)
        assert np.allclose([hit.score for hit in found], [hit.score for hit in expected], atol=1e-5)


@pytest.mark.parametrize("mode", ["soft", "hard", "base", "fruit", "traffic"])
@pytest.mark.parametrize("text", ["green pear", "slow train", "high mountain", "number"])
def test_every_mode_finds_what_sql_finds(routed: Connection, mode: Mode, text: str) -> None:
    """Routing in Python is that of pgembed.route."""
    assert keys(search(routed, "papers", text, mode=mode)) == in_sql(routed, text, mode)


def test_modes_differ_where_experts_do(routed: Connection) -> None:
    """An expert's name asks it alone; hard asks the nearest; soft mixes all, base included."""
    routes = {
        mode: explain(routed, "papers", "red apple", mode=mode).route.weights
        for mode in ("base", "fruit", "hard", "soft")
    }
    assert routes["base"] == {"base": 1}
    assert routes["fruit"] == routes["hard"] == {"fruit": 1}
    assert set(routes["soft"]) == {"base", "fruit", "traffic"}
    assert routes["soft"]["base"] == pytest.approx(0.25)
    assert routes["soft"]["fruit"] > routes["soft"]["traffic"]
    assert sum(routes["soft"].values()) == pytest.approx(1)


def test_without_a_router_base_answers(shared: Connection) -> None:
    """Every mode but an expert's name works on a fresh database, and says why."""
    found = explain(shared, "papers", "red apple")
    assert found.route.weights == {"base": 1}
    assert found.route.reason == "no expert has pilot embeddings, so the base answers"
    assert found.hits == search(shared, "papers", "red apple", mode="base")


FILTERS: list[tuple[Mapping[str, Any], str]] = [
    ({}, "true"),
    ({"year": {"gte": 2015}}, "year >= 2015"),
    ({"topic": ["a", "b"], "active": True}, "topic in ('a', 'b') and active"),
    ({"added": {"lt": date(2020, 1, 15)}}, "added < '2020-01-15'"),
    ({"price": {"between": [Decimal("2.50"), 10]}}, "price between 2.5 and 10"),
    ({"id": {"in": (np.int64(7), 8)}}, "id in (7, 8)"),
    ({"price": np.float32(3.75)}, "price = 3.75"),
    ({"abstract": None}, "abstract is null"),
    ({"or": [{"id": 1}, {"not": {"id": {"gt": 2}}}]}, "id = 1 or not id > 2"),
    ({"title": {"like": "red%"}, "id": {"ne": 6}}, "title like 'red%%' and id <> 6"),
    ({"title": "x' or true --"}, "false"),
]


@pytest.mark.parametrize(("conditions", "predicate"), FILTERS)
def test_a_filter_leaves_every_match_and_nothing_else(
    shared: Connection, conditions: Mapping[str, Any], predicate: str
) -> None:
    """Values may be dates, decimals and numpy's numbers; as many rows come back as match."""
    rows = shared.execute(f"select id::text from papers where {predicate}".replace("%%", "%"))
    found = search(shared, "papers", "red apple", k=100, filter=conditions)
    assert sorted(keys(found)) == sorted(key for (key,) in rows.fetchall())


def test_a_uuid_is_a_value_of_a_filter(shared: Connection) -> None:
    """As are other texts that json has no type for."""
    shared.execute("alter table papers add token uuid")
    token = uuid.uuid4()
    shared.execute("update papers set token = %s where id = 9", (token,))
    assert keys(search(shared, "papers", "apple", filter={"token": token})) == ["9"]


def test_hybrid_finds_words_that_vectors_miss(shared: Connection) -> None:
    """A hit of both arms has both scores, and ranks follow the fused one."""
    hits = search(shared, "papers", "chapter 13", hybrid=True, k=60)
    assert len(hits) == 60
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    best = hits[0]
    assert best.key == "13"
    assert best.lexical_score
    assert best.dense_score is not None


@pytest.mark.parametrize("text", ["the and of", "& | ! ( ) : *", "'; drop table papers --", "語🙂"])
def test_hybrid_takes_any_words(shared: Connection, text: str) -> None:
    """Stop words, operators and quotes are words like any; k rows come back."""
    assert len(search(shared, "papers", text, hybrid=True, k=7)) == 7


def test_explain_says_how_rows_were_found(routed: Connection) -> None:
    """Hits as search has them, the route with its reason, and the plan with its counts."""
    found = explain(routed, "papers", "red apple", k=3, filter={"year": 2006}, hybrid=True)
    assert found.hits == search(
        routed, "papers", "red apple", k=3, filter={"year": 2006}, hybrid=True
    )
    assert set(found.route.scores) == {"fruit", "traffic"}
    assert '"fruit" is most similar' in found.route.reason
    assert found.plan.plan == "exact"
    assert found.plan.estimated > 0
    assert [step.name for step in found.steps] == [
        "route",
        "filter",
        "plan",
        "dense arm",
        "lexical arm",
        "fusion",
        "hits",
    ]
    assert found.plan.why


def test_explain_of_a_vector_has_no_route(shared: Connection) -> None:
    """What was given is searched with as it is."""
    found = explain(shared, "papers", np.ones(32, np.float32))
    assert found.route.reason == "the vector was given"
    assert len(found.hits) == 10


# Refusals.


def test_an_unknown_collection_is_answered_with_those_that_exist(shared: Connection) -> None:
    """The hint lists them."""
    with pytest.raises(NotFoundError, match="'nope'") as raised:
        search(shared, "nope", "text")
    assert "'papers'" in (raised.value.hint or "")


def test_an_unknown_expert_is_answered_with_those_that_exist(routed: Connection) -> None:
    """So is one that is retired, and a mode that is none."""
    retire_expert(routed, "tiny", "traffic")
    for mode in ("nobody", "traffic", "", "SOFT", "x' or true"):
        with pytest.raises(NotFoundError) as raised:
            search(routed, "papers", "red apple", mode=mode)
        assert raised.value.hint == "known are base, fruit"


@pytest.mark.parametrize(
    ("conditions", "message", "hint"),
    [
        ({"nope": 1}, "nope", "id, title, abstract"),
        ({"year": {"about": 1}}, "about", "between"),
        ({"year": "soon"}, "soon", "integer"),
        ({"year": {"between": [1]}}, "between", None),
        ({"or": {"year": 1}}, "or", None),
        ({"year": object()}, "json", None),
        ({"price": float("nan")}, "json", None),
        ([("year", 1)], "a filter is a mapping", "gte"),
        ("year = 2020", "a filter is a mapping", "gte"),
    ],
)
def test_a_filter_that_cannot_be_says_why(
    shared: Connection, conditions: Any, message: str, hint: str | None
) -> None:
    """Errors name the column, operator or value at fault, and what there is instead."""
    with pytest.raises(FilterError, match=message) as raised:
        search(shared, "papers", "text", filter=conditions)
    assert hint is None or hint in (raised.value.hint or "")


@pytest.mark.parametrize("value", ["nul \0 in it", "lone \ud800 surrogate"])
def test_texts_that_postgresql_cannot_hold_are_refused(shared: Connection, value: str) -> None:
    """In a query, a filter, a collection's name or a mode: an error of ours each time."""
    calls: list[dict[str, Any]] = [
        {"query": value},
        {"query": value, "hybrid": True},
        {"query": "text", "filter": {"title": value}},
        {"query": "text", "filter": {value: 1}},
        {"query": "text", "collection": value},
        {"query": "text", "mode": value},
    ]
    for call in calls:
        with pytest.raises(PgembedError), shared.transaction():
            search(shared, **{"collection": "papers", **call})


def test_a_filter_nested_without_end_is_refused(shared: Connection) -> None:
    """Whether json, the database or Python gives up first."""
    for depth in (50, 100_000):
        nested: dict[str, Any] = {"year": 1}
        for _ in range(depth):
            nested = {"not": nested}
        with pytest.raises(FilterError), shared.transaction():
            search(shared, "papers", "text", filter=nested)


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (np.full(32, np.nan), "NaN"),
        (np.full(32, np.inf), "infinite"),
        (np.full(32, 1e300), "infinite"),
        (np.zeros(32), "zero"),
        (np.ones(31), "31 dimensions"),
        (np.ones((1, 32)), "one axis"),
        (np.float32(1), "one axis"),
        ([], "one axis"),
        (["a"] * 32, "vector of numbers"),
        ([[1], [1, 2]], "vector of numbers"),
        (None, "vector"),
        (b"bytes", "vector of numbers"),
    ],
)
def test_a_vector_that_has_no_direction_here_is_refused(
    shared: Connection, vector: Any, message: str
) -> None:
    """Wrong numbers, wrong dimensions, wrong shape."""
    with (
        np.errstate(over="ignore"),
        pytest.raises(InputError, match=message),
        shared.transaction(),
    ):
        search(shared, "papers", vector)


@pytest.mark.parametrize("text", ["", " \n", "\u00a0"])
def test_an_empty_query_is_refused(shared: Connection, text: str) -> None:
    """There is nothing to encode."""
    with pytest.raises(InputError, match="empty"):
        search(shared, "papers", text)


def test_a_vector_has_no_words_for_a_hybrid_search(shared: Connection) -> None:
    """The error says what is missing."""
    with pytest.raises(InputError, match="the words of the query"):
        search(shared, "papers", np.ones(32, np.float32), hybrid=True)


def test_a_query_of_ten_megabytes_is_answered_by_its_beginning(shared: Connection) -> None:
    """As with any text longer than the encoder takes, in time."""
    long = "red apple number six " * 500_000
    assert search(shared, "papers", long, k=3) == search(shared, "papers", long[:5000], k=3)


def test_a_hybrid_query_of_ten_megabytes_is_answered_too(shared: Connection) -> None:
    """By its first words, of which PostgreSQL cannot take as many at once."""
    many = "apple " + " ".join(f"word{n}" for n in range(900_000))
    assert len(search(shared, "papers", many, k=3, hybrid=True)) == 3


@pytest.mark.parametrize("k", [-1, 2**40, 2**31, 1.5, "5", None])
def test_a_k_that_is_no_count_is_refused(shared: Connection, k: Any) -> None:
    """The error names it."""
    with pytest.raises(InputError, match="k is"):
        search(shared, "papers", "text", k=k)
    with pytest.raises(InputError, match="k is"):
        explain(shared, "papers", "text", k=k)


@pytest.mark.parametrize(("k", "rows"), [(0, 0), (1, 1), (np.int64(5), 5), (2**31 - 1, 60)])
@pytest.mark.parametrize("hybrid", [False, True])
def test_any_count_of_rows_can_be_asked_for(
    shared: Connection, k: int, rows: int, hybrid: bool
) -> None:
    """Nothing, one, a number of numpy's, more than there are."""
    assert len(search(shared, "papers", "apple", k=k, hybrid=hybrid)) == rows


def test_another_model_than_the_collections_is_refused(shared: Connection, tmp_path: Path) -> None:
    """Its vectors mean something else."""
    stranger = open_encoder(str(make_tiny_encoder(tmp_path / "stranger", seed=1)))
    with pytest.raises(FingerprintError, match="given encoder 'stranger'"):
        search(shared, "papers", "text", encoder=stranger)


def test_a_database_without_pgembed_says_how_to_install_it(database_url: str) -> None:
    """Instead of an undefined function."""
    with (
        connect(with_database(database_url, "postgres")) as plain,
        pytest.raises(SchemaError, match="pgembed migrate"),
    ):
        search(plain, "papers", "text")


# Routers are kept, and never too long.


def kept(connection: Connection) -> Router:
    """The router that a search would use now."""
    version = connection.execute("select pgembed.routing_version('tiny')").fetchone()
    assert version is not None
    return current_router(connection, "tiny", version[0])


def test_a_router_is_loaded_once(routed: Connection) -> None:
    """Searches with an unchanged router share one object."""
    first = kept(routed)
    search(routed, "papers", "red apple")
    assert kept(routed) is first


def test_a_changed_expert_or_router_counts_at_once(routed: Connection) -> None:
    """Registered, replaced, retired, brought back, or built anew: the next search knows."""
    spec = registered_encoder(routed, "tiny")
    seen = [kept(routed)]

    def now() -> list[str]:
        seen.append(kept(routed))
        assert seen[-1] is not seen[-2]
        assert keys(search(routed, "papers", "red apple")) == in_sql(routed, "red apple", "soft")
        return sorted(seen[-1].experts)

    register_expert(routed, spec, "third", turning(9))
    assert now() == ["fruit", "third", "traffic"]
    register_expert(routed, spec, "fruit", turning(8))
    assert now() == ["fruit", "third", "traffic"]
    retire_expert(routed, "tiny", "third")
    assert now() == ["fruit", "traffic"]
    routed.execute("update pgembed.expert set state = 'active' where name = 'third'")
    assert now() == ["fruit", "third", "traffic"]
    routed.execute("delete from pgembed.expert where name = 'third'")
    assert now() == ["fruit", "traffic"]
    routed.execute("delete from pgembed.router")
    now()


def test_a_rejected_expert_is_not_loaded(routed: Connection) -> None:
    """It stays a row that can be looked up."""
    spec = registered_encoder(routed, "tiny")
    register_expert(routed, spec, "useless", turning(9), state="rejected")
    assert sorted(kept(routed).experts) == ["fruit", "traffic"]


def test_a_router_that_was_rolled_back_is_forgotten(migrated_url: str) -> None:
    """The next one has its number and is another one all the same."""
    with psycopg.connect(migrated_url) as connection:
        install_router(connection, temperature=0.5)
        undone = kept(connection)
        connection.rollback()
        install_router(connection)
        assert kept(connection) is not undone
        assert kept(connection).policy.parameters.temperature == 0.05


# Connections.


def test_searches_work_in_a_read_only_transaction(shared_url: str) -> None:
    """As on a replica: nothing is written, and nothing is left behind."""
    with psycopg.connect(shared_url) as connection:
        connection.read_only = True
        connection.execute("set hnsw.ef_search = 77")
        for options in ({}, {"hybrid": True}, {"filter": {"year": 2006}}, {"mode": "hard"}):
            assert search(connection, "papers", "red apple", **options)
            assert explain(connection, "papers", "red apple", **options).hits
        assert connection.execute("show hnsw.ef_search").fetchone() == ("77",)


@pytest.fixture
def own(shared_url: str) -> Iterator[Connection]:
    """A connection that its owner has set up for purposes of his own."""
    with psycopg.connect(shared_url, row_factory=dict_row, prepare_threshold=0) as connection:
        register_vector(connection)
        connection.cursor_factory = psycopg.ClientCursor
        yield connection


def test_the_callers_own_settings_of_a_connection_do_not_matter(own: Connection) -> None:
    """Rows as dictionaries, other cursors and pgvector's adapters do not change the answer."""
    install_router(own)
    for _ in range(3):
        found = explain(own, "papers", "red apple", filter={"year": {"gte": 2005}}, hybrid=True)
    assert [hit.rank for hit in found.hits] == list(range(1, 11))
    assert set(found.route.weights) == {"base", "fruit", "traffic"}
    own.rollback()


def test_an_open_transaction_sees_its_own_rows(shared: Connection) -> None:
    """A search within a transaction reads what that transaction wrote."""
    shared.execute("delete from papers where id <> 6")
    assert keys(search(shared, "papers", "red apple")) == ["6"]


def test_other_search_paths_find_the_same(shared: Connection) -> None:
    """Functions that somebody put in front of the system's are never called."""
    shared.execute("create schema trap")
    for function in ("md5(text)", "format(text, variadic text[])", "vector_dims(public.vector)"):
        shared.execute(
            f"create function trap.{function} returns text language sql as 'select (1 / 0)::text'"
        )
    shared.execute("set local search_path = trap, pg_catalog")
    assert len(search(shared, "papers", "red apple", filter={"year": 2006}, hybrid=True)) == 3

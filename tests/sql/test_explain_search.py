"""pgembed.explain_search."""

from __future__ import annotations

from typing import Any

from pgembed.database import Connection
from pgembed.errors import InputError
from tests.sql.support import refused
from tests.sql.test_search import hits, near_cluster, random_query


def steps(connection: Connection, collection: str, query: str, rest: str = "") -> dict[str, Any]:
    """Data of each step by its name."""
    rows = connection.execute(
        f"select step, name, detail, data from pgembed.explain_search(%s, %s::vector{rest})".encode(),
        (collection, query),
    ).fetchall()
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
    assert all(row[2] for row in rows)
    return {name: data for _, name, _, data in rows}


def test_the_course_of_a_dense_search(points: Connection) -> None:
    """Filter, plan, arm and hits, and the hits are those of the search."""
    told = steps(points, "points", near_cluster(1), ", filter => '{\"cluster\": 3}', k => 4")
    assert list(told) == ["filter", "plan", "dense arm", "hits"]
    assert told["filter"]["predicate"] == "(s.cluster = '3'::integer)"
    assert told["plan"]["plan"] == "exact"
    assert told["dense arm"]["rows"] == 15
    found = hits(points, "points", near_cluster(1), 4, filter={"cluster": 3})
    assert [(hit["key"], hit["score"]) for hit in told["hits"]] == [
        (hit[0], hit[2]) for hit in found
    ]


def test_the_index_is_named_where_it_serves(points: Connection) -> None:
    """Without a filter the plan is the index."""
    told = steps(points, "points", near_cluster(1))
    assert told["plan"]["plan"] == "hnsw"
    assert told["plan"]["estimated"] == 4000


def test_the_course_of_a_hybrid_search(shared: Connection) -> None:
    """The rows of both arms, the fusion and its weight, and both scores of each hit."""
    told = steps(
        shared, "papers", random_query(1, 32), ", hybrid => true, query_text => 'apple chapter'"
    )
    assert list(told) == ["filter", "plan", "dense arm", "lexical arm", "fusion", "hits"]
    assert told["fusion"]["kind"] == "zscore"
    assert told["fusion"]["lexical_weight"] == 0.3
    assert 0 < told["lexical arm"]["rows"] < told["dense arm"]["rows"] == 60
    assert all(hit["lexical_score"] is not None for hit in told["hits"])


def test_route_and_buffers_where_asked(shared: Connection) -> None:
    """A base embedding brings the route, buffers the pages that the search touches."""
    told = steps(
        shared,
        "papers",
        random_query(1, 32),
        ", base => (select embedding::vector from pgembed_data.papers where id = 1), buffers => true",
    )
    assert told["route"] == {"base": {"weight": 1, "score": None}}
    assert told["buffers"]["hit"] + told["buffers"]["read"] > 0


def test_exclusion_tells_its_threshold(shared: Connection) -> None:
    """What is penalised is told with the similarity from which it is."""
    told = steps(
        shared,
        "papers",
        random_query(1, 32),
        f", exclude => array['{random_query(2, 32)}'::vector]",
    )
    assert -1 < told["exclude"]["nearness"] < 1


def test_nothing_to_find_is_told_too(shared: Connection) -> None:
    """K = 0 and a filter that nothing matches have a course."""
    assert steps(shared, "papers", random_query(1, 32), ", k => 0")["hits"] == []
    assert steps(shared, "papers", random_query(1, 32), ", filter => '{\"id\": -1}'")["hits"] == []


def test_errors_are_those_of_search(shared: Connection) -> None:
    """Arguments are checked as search checks them."""
    refused(
        shared,
        InputError,
        "select pgembed.explain_search('papers', %s::vector, k => -1)",
        (random_query(1, 32),),
    )

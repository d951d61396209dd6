"""pgembed.plan_search."""

from __future__ import annotations

from typing import Any

from psycopg.types.json import Jsonb

from pgembed.database import Connection
from pgembed.errors import FilterError, InputError, NotFoundError, SourceError
from tests.sql.support import refused


def plan(connection: Connection, collection: str, k: int, conditions: Any = None) -> dict[str, Any]:
    """The plan of a search, by column."""
    cursor = connection.execute(
        "select * from pgembed.plan_search(%s, %s::int, %s)",
        (collection, k, None if conditions is None else Jsonb(conditions)),
    )
    names = [item.name for item in cursor.description or ()]
    rows = cursor.fetchall()
    assert len(rows) == 1
    return dict(zip(names, rows[0], strict=True))


def test_few_matches_are_compared_exactly(points: Connection) -> None:
    """Below the threshold the plan is exact, and says how many chunks it counted."""
    made = plan(points, "points", 10, {"cluster": 3})
    assert (made["plan"], made["counted"], made["threshold"]) == ("exact", 500, 500)
    assert "500 chunks match" in made["why"]


def test_many_matches_go_through_the_index(points: Connection) -> None:
    """Near the threshold the count decides, and stops one beyond it; far above nothing is counted."""
    made = plan(points, "points", 10, {"cluster": 3})
    assert (made["plan"], made["counted"]) == ("exact", 500)
    points.execute("update points set cluster = 3 where cluster < 3")
    made = plan(points, "points", 10, {"cluster": 3, "parity": [True, False]})
    assert (made["plan"], made["counted"]) == ("hnsw", 1001)
    assert "more than 1000" in made["why"]
    made = plan(points, "points", 10)
    assert (made["plan"], made["counted"], made["estimated"]) == ("hnsw", None, 4000)
    assert "far above the threshold of 500" in made["why"]


def test_the_condition_is_the_filter_s(points: Connection) -> None:
    """Predicate is the compiled filter; without a filter there is none, and no join."""
    assert (
        plan(points, "points", 10, {"parity": True})["predicate"] == "(s.parity = 'true'::boolean)"
    )
    assert plan(points, "points", 10)["predicate"] is None
    assert plan(points, "points", 10, {})["predicate"] is None


def test_a_large_k_is_exact(points: Connection) -> None:
    """An index scan returns a limited number of rows, so a k beyond it is not left to it."""
    assert "k is beyond" not in plan(points, "points", 3200)["why"]
    made = plan(points, "points", 3201)
    assert made["plan"] == "exact"
    assert "k is beyond" in made["why"]


def test_without_an_index_every_plan_is_exact(points: Connection) -> None:
    """Before the first load has its index, search compares all chunks."""
    points.execute("drop index pgembed_data.points_embedding_idx")
    made = plan(points, "points", 10)
    assert made["plan"] == "exact"
    assert made["why"] == "there is no HNSW index yet"


def test_bad_arguments_are_refused(shared: Connection) -> None:
    """k, filter and collection are checked here already."""
    for k in ("-1", "null"):
        statement = f"select pgembed.plan_search('papers', {k})"
        assert "0 or more" in str(refused(shared, InputError, statement))
    refused(shared, NotFoundError, "select pgembed.plan_search('nope')")
    refused(shared, FilterError, "select pgembed.plan_search('papers', 1, '{\"nope\": 1}')")
    shared.execute("drop table papers cascade")
    error = refused(shared, SourceError, "select pgembed.plan_search('papers')")
    assert "drop_collection('papers')" in str(error.hint)


def test_operators_that_a_type_lacks_are_refused(shared: Connection) -> None:
    """A comparison that PostgreSQL does not know is a mistake in the filter, not of the server."""
    shared.execute("alter table papers add spot point")
    conditions = Jsonb({"spot": {"lt": "(1,2)"}})
    refused(shared, FilterError, "select pgembed.plan_search('papers', 1, %s)", (conditions,))

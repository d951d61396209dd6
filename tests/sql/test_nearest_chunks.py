"""pgembed.nearest_chunks."""

from __future__ import annotations

from collections import Counter

from pgembed.database import Connection
from pgembed.errors import NotFoundError
from tests.sql.support import refused, scalar

NEAREST = (
    "select * from pgembed.nearest_chunks('points',"
    " array(select md5(t)::uuid from unnest(%s::text[]) with ordinality as u (t, n) order by n), %s)"
)


def cache(connection: Connection, query: str, cluster: int) -> None:
    """Cache a query's embedding: the direction of a cluster."""
    connection.execute(
        "insert into pgembed.query_cache (encoder, query_hash, embedding)"
        " select 'plain8', md5(%s)::uuid, array_agg((n = %s)::int::real order by n)::vector"
        " from generate_series(0, 7) as n",
        (query, cluster),
    )


def test_each_cached_query_has_its_neighbours(points: Connection) -> None:
    """K chunks for each query, numbered as given; a query that is not cached has none."""
    cache(points, "first", 2)
    cache(points, "third", 5)
    rows = points.execute(NEAREST, (["first", "second", "third"], 20)).fetchall()
    assert Counter(number for number, _, _ in rows) == {1: 20, 3: 20}
    clusters = {
        number: {(int(key) - 1) % 8 for n, key, _ in rows if n == number} for number in (1, 3)
    }
    assert clusters == {1: {2}, 3: {5}}


def test_they_are_the_nearest(points: Connection) -> None:
    """Nearly all are those that a comparison with every chunk finds."""
    cache(points, "first", 2)
    found = {key for _, key, _ in points.execute(NEAREST, (["first"], 50)).fetchall()}
    exact = scalar(
        points,
        "select array_agg(id::text) from (select id from pgembed_data.points"
        " order by (embedding <=> '[0,0,1,0,0,0,0,0]') + 0 limit 50) as d",
    )
    assert len(found & set(exact)) >= 45


def test_settings_of_the_caller_stay(points: Connection) -> None:
    """hnsw.ef_search is what it was."""
    cache(points, "first", 2)
    points.execute("set hnsw.ef_search = 77")
    points.execute(NEAREST, (["first"], 200))
    assert scalar(points, "select current_setting('hnsw.ef_search')") == "77"


def test_unknown_collection_is_refused(points: Connection) -> None:
    """The error names it."""
    refused(points, NotFoundError, "select pgembed.nearest_chunks('nope', '{}')")

"""pgembed.recall_sample, recall_of and sample_queries."""

from __future__ import annotations

from psycopg.types.json import Jsonb

from pgembed.database import Connection
from tests.sql.support import column
from tests.sql.test_search import near_cluster


def test_every_query_is_compared_with_an_exact_search(points: Connection) -> None:
    """A row a query, with the plan that was taken; an exact plan has recall 1."""
    rows = points.execute(
        "select query_no, plan, matching, wanted, returned, recall"
        " from pgembed.recall_sample('points', 12, 10, %s)",
        (Jsonb({"cluster": 3}),),
    ).fetchall()
    assert rows == [(number, "exact", 500, 10, 10, 1.0) for number in range(1, 13)]
    rows = points.execute(
        "select plan, matching, recall from pgembed.recall_sample('points', 12)"
    ).fetchall()
    assert {(plan, matching) for plan, matching, _ in rows} == {("hnsw", 4000)}
    assert sum(recall for _, _, recall in rows) / 12 > 0.9


def test_nothing_that_matches_has_no_recall(points: Connection) -> None:
    """A filter that nothing matches is answered with null, and nothing is missing."""
    row = points.execute(
        "select matching, wanted, returned, recall from pgembed.recall_of('points', %s::vector, 10, %s)",
        (near_cluster(1), Jsonb({"cluster": 99})),
    ).fetchone()
    assert row == (0, 0, 0, None)


def test_a_seed_gives_the_same_queries(points: Connection) -> None:
    """Chosen by the seed alone; another seed chooses others; cached queries come first."""
    chosen = "select q::text from pgembed.sample_queries('points', 5, %s) as q"
    first = column(points, chosen, (1,))
    assert first == column(points, chosen, (1,))
    assert first != column(points, chosen, (2,))
    points.execute(
        "insert into pgembed.query_cache select 'plain8', md5(n::text)::uuid, array_fill(n, '{8}')::vector"
        " from generate_series(1, 5) as n"
    )
    cached = column(points, chosen, (1,))
    assert sorted(cached) == sorted(f"[{','.join([str(n)] * 8)}]" for n in range(1, 6))

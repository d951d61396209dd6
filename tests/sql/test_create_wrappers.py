"""The typed functions of a collection: search_<name>, and rank_<name> to compose with."""

from __future__ import annotations

import json
from typing import Any

from pgembed.database import Connection
from tests.sql.support import column, create_collection, embed, scalar
from tests.sql.test_search import hits, near_cluster, random_query


def plan(connection: Connection, statement: str) -> str:
    """The plan of a statement as json text."""
    explained: Any = scalar(connection, f"explain (format json) {statement}")
    return json.dumps(explained)


def test_keys_have_their_own_type(shared: Connection) -> None:
    """The rows of pgembed.search, with a key that joins without a cast."""
    query = random_query(1, 32)
    typed = shared.execute(
        "select s.id, s.score from pgembed.search_papers(%s::vector, k => 5, filter => '{\"active\": true}') as s"
        " order by s.rank",
        (query,),
    ).fetchall()
    found = hits(shared, "papers", query, 5, filter={"active": True})
    assert typed == [(int(hit[0]), hit[2]) for hit in found]


def test_a_join_uses_the_primary_key(points: Connection) -> None:
    """Joining the source to the typed function looks rows up by the key's index."""
    found = plan(
        points,
        f"select * from pgembed.search_points('{near_cluster(1)}'::vector) as s"
        " join points as p on p.id = s.id",
    )
    assert "points_pkey" in found
    assert "Nested Loop" in found


def test_rank_goes_through_the_index(points: Connection) -> None:
    """Ordered by distance with the caller's own limit, the HNSW index gives the order."""
    statement = (
        f"select r.id from pgembed.rank_points('{near_cluster(1)}'::vector) as r"
        " order by r.distance limit 10"
    )
    assert "points_embedding_idx" in plan(points, statement)
    assert len(column(points, statement)) == 10


def test_rank_takes_joins_and_any_predicate(points: Connection) -> None:
    """With a join and a predicate of plain SQL the index still gives the order."""
    points.execute("set local hnsw.iterative_scan = relaxed_order")
    statement = (
        f"select r.id from pgembed.rank_points('{near_cluster(1)}'::vector) as r"
        " join points as p using (id) where p.parity and length(p.body) < 100"
        " order by r.distance limit 10"
    )
    assert "points_embedding_idx" in plan(points, statement)
    assert len(column(points, statement)) == 10


def test_composite_keys_and_names_that_collide(shared: Connection) -> None:
    """Several key columns come typed; a name that the function has itself gets source_ before it."""
    shared.execute(
        'create table parts (k uuid, "rank" date, body text not null, primary key (k, "rank"))'
    )
    shared.execute("insert into parts values (gen_random_uuid(), '2024-02-29', 'red apple')")
    create_collection(shared, "Odd Parts", "parts", ["body"])
    embed(shared, "Odd Parts")
    joined = scalar(
        shared,
        'select p.body from pgembed."search_Odd Parts"(%s::vector) as s'
        ' join parts as p on p.k = s.source_k and p."rank" = s.source_rank',
        (random_query(1, 32),),
    )
    assert joined == "red apple"
    assert (
        scalar(
            shared,
            'select count(*) from pgembed."rank_Odd Parts"(%s::vector)',
            (random_query(1, 32),),
        )
        == 1
    )


def test_they_go_with_their_collection(shared: Connection) -> None:
    """Dropping a collection drops both."""
    shared.execute("select pgembed.drop_collection('papers')")
    left = scalar(
        shared, "select count(*) from pg_proc where proname in ('search_papers', 'rank_papers')"
    )
    assert left == 0

"""pgembed.recall_sample, recall_of and sample_queries."""

from __future__ import annotations

import pytest
from psycopg.types.json import Jsonb

from pgembed.database import Connection
from pgembed.errors import FilterError, InputError, NotFoundError
from tests.sql.support import column, create_collection, refused, scalar
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


def test_the_plan_is_the_one_that_a_search_takes(points: Connection) -> None:
    """Not the one that estimates promised: as explain_search tells it, query by query."""
    points.execute("update points set cluster = 3 where cluster < 3")
    conditions = Jsonb({"cluster": 3})
    told = column(
        points,
        "select e.data ->> 'plan' from pgembed.sample_queries('points', 8, hashtext('0')) with ordinality as q (query, n)"
        " cross join lateral pgembed.explain_search('points', q.query, filter => %s) as e"
        " where e.name = 'plan' order by q.n",
        (conditions,),
    )
    sampled = "select plan from pgembed.recall_sample('points', 8, 10, %s) order by query_no"
    assert column(points, sampled, (conditions,)) == told
    assert "hnsw" in told


def test_fewer_matches_than_k_are_all_wanted(points: Connection) -> None:
    """All of min(k, matching); a search that returns them has recall 1."""
    rows = points.execute(
        "select matching, wanted, returned, recall from pgembed.recall_sample('points', 3, 10, %s)",
        (Jsonb({"id": {"lte": 4}}),),
    ).fetchall()
    assert rows == [(4, 4, 4, 1.0)] * 3


def test_rows_that_the_caller_cannot_see_are_not_wanted(points: Connection) -> None:
    """Under row-level security both searches see the same rows."""
    points.execute("create role sampler")
    points.execute("grant usage on schema pgembed, pgembed_data to sampler")
    points.execute("grant select on all tables in schema pgembed, pgembed_data to sampler")
    points.execute("grant select on points to sampler")
    points.execute("alter table points enable row level security")
    points.execute("create policy few on points to sampler using (id <= 6)")
    points.execute("set local role sampler")
    rows = points.execute(
        "select matching, wanted, returned, recall from pgembed.recall_sample('points', 2)"
    ).fetchall()
    assert rows == [(6, 6, 6, 1.0)] * 2


def test_rows_at_the_same_distance_are_all_right(points: Connection) -> None:
    """Which of equals come back is chance, and no lack of recall."""
    points.execute("create table twins (id int primary key, body text)")
    points.execute("insert into twins select n, 'twin' from generate_series(1, 40) as n")
    create_collection(points, "twins", "twins", ["body"], encoder="plain8")
    points.execute(
        "insert into pgembed_data.twins (id, chunk_no, content, span, content_hash, embedding)"
        " select id, 0, body, '[0,1)', sha256(id::text::bytea), '[1,0,0,0,0,0,0,0]' from twins"
    )
    rows = column(points, "select recall from pgembed.recall_sample('twins', 3, 5)")
    assert rows == [1.0] * 3


def test_a_seed_is_any_number_and_leaves_random_alone(points: Connection) -> None:
    """The same queries for a seed, and the caller's own random numbers go on as they would."""
    sampled = "select array_agg(s order by query_no)::text from pgembed.recall_sample('points', 4, seed => %s) as s"
    assert scalar(points, sampled, (0.5,)) == scalar(points, sampled, (0.5,))
    numbers = []
    for statement in ("select 1", "select pgembed.recall_sample('points', 2, seed => 7)"):
        points.execute("select setseed(0.25)")
        points.execute(statement)
        numbers.append(scalar(points, "select random()"))
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize("arguments", ["'points', 0", "'points', null", "'points', 2, -1"])
def test_numbers_are_checked(points: Connection, arguments: str) -> None:
    """How many queries, and how many rows of each."""
    refused(points, InputError, f"select pgembed.recall_sample({arguments})")


def test_what_does_not_exist_is_refused(points: Connection) -> None:
    """Collection and filter are named."""
    refused(points, NotFoundError, "select pgembed.recall_sample('nope')")
    statement = "select pgembed.recall_sample('points', 1, 10, '{\"nope\": 1}')"
    refused(points, FilterError, statement)

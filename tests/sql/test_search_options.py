"""pgembed.search: exclude, min_score, pages, columns and groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from pgembed.database import Connection
from pgembed.errors import InputError
from tests.sql.support import as_literal, refused, scalar
from tests.sql.test_search import hits, near_cluster, plan_of, random_query

ON_SHARED = settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
RANK, SCORE, FIELDS, CURSOR = 1, 2, 7, 8


def pages(
    connection: Connection, collection: str, query: str, size: int, **options: Any
) -> list[list[tuple[Any, ...]]]:
    """All pages, each asked for after the cursor of the one before."""
    found = [hits(connection, collection, query, size, **options)]
    while found[-1]:
        after = Jsonb(found[-1][-1][CURSOR])
        found.append(hits(connection, collection, query, size, after=after, **options))
    return found[:-1]


@ON_SHARED
@given(size=st.integers(1, 25), seed=st.integers(0, 99), hybrid=st.booleans())
def test_pages_by_cursor_are_the_whole_in_order(
    shared: Connection, size: int, seed: int, hybrid: bool
) -> None:
    """Page by page every matching row comes once, in the order and with the ranks of one search."""
    words: dict[str, Any] = {"hybrid": True, "query_text": "red car chapter"} if hybrid else {}
    query = random_query(seed, 32)
    whole = hits(shared, "papers", query, 60, filter={"active": True}, **words)
    paged = pages(shared, "papers", query, size, filter={"active": True}, **words)
    flat = [hit for page in paged for hit in page]
    assert [hit[0] for hit in flat] == [hit[0] for hit in whole]
    assert [hit[RANK] for hit in flat] == list(range(1, 31))
    assert all(len(page) == size for page in paged[:-1])


@pytest.mark.parametrize("words", [None, "point 17 18 chunk"], ids=["dense", "hybrid"])
def test_pages_through_the_index_never_repeat(points: Connection, words: str | None) -> None:
    """While pages reach deeper into the index, no row comes twice and all of them come."""
    points.execute("select pgembed.refresh('points')")
    assert plan_of(points, "points", 50, {"parity": True}) in ("hnsw", "exact")
    options: dict[str, Any] = {"hybrid": True, "query_text": words} if words else {}
    keys = [
        hit[0] for page in pages(points, "points", near_cluster(2), 700, **options) for hit in page
    ]
    assert len(keys) == len(set(keys))
    if not words:
        assert len(keys) == 4000


def test_pages_stay_when_rows_come_and_go(shared: Connection) -> None:
    """A row deleted from, or put into, an earlier page does not shift the later ones."""
    query = random_query(3, 32)
    first, second, third = pages(shared, "papers", query, 20)
    shared.execute(
        "delete from papers where id = any (%s::int[])", ([hit[0] for hit in first[:5]],)
    )
    again = hits(shared, "papers", query, 20, after=Jsonb(first[-1][CURSOR]))
    assert [hit[:3] for hit in again] == [hit[:3] for hit in second]
    assert third


def test_cursors_hold_all_digits(shared: Connection) -> None:
    """Pages do not repeat rows in a session that shows fewer digits."""
    shared.execute("set local extra_float_digits = -3")
    keys = [hit[0] for page in pages(shared, "papers", random_query(5, 32), 5) for hit in page]
    assert len(keys) == len(set(keys)) == 60


def test_any_offset_and_length_are_answered(shared: Connection) -> None:
    """Beyond what an integer holds nothing is left; vectors of any length can be excluded."""
    query = random_query(4, 32)
    assert hits(shared, "papers", query, 2_147_483_647, offset=2_147_483_647) == []
    for length in (1e-9, 1e6):
        unwanted = as_literal(np.full(32, length))
        assert len(hits(shared, "papers", query, 60, exclude=[unwanted])) == 60


def test_offset_skips(shared: Connection) -> None:
    """Offset is the same as leaving the first rows out; beyond the end nothing comes."""
    query = random_query(4, 32)
    whole = hits(shared, "papers", query, 60)
    assert hits(shared, "papers", query, 7, offset=11) == whole[11:18]
    assert hits(shared, "papers", query, 7, offset=58) == whole[58:]
    assert hits(shared, "papers", query, 7, offset=60) == []
    words: dict[str, Any] = {"hybrid": True, "query_text": "red"}
    assert (
        hits(shared, "papers", query, 5, offset=5, **words)
        == hits(shared, "papers", query, 10, **words)[5:]
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("after => '[1]'", "no cursor"),
        ("after => '{}'", "no cursor"),
        ('after => \'[1, "x", "7"]\'', "no cursor"),
        ("after => '[0, 0.5, \"7\"]'", "no cursor"),
        ('after => \'[1, 0.5, "7"]\', "offset" => 3', "not both"),
        ("after => '[1, 0.5, \"7\"]', hybrid => true, query_text => 'a'", "another search"),
        ('"offset" => -1', "offset is -1"),
        ("after => '[1.5, 0.5, \"7\"]'", "no cursor"),
        ("after => '[1, 1e400, \"7\"]'", "no cursor"),
        ("columns => array['year', null]", "none of them null"),
        ("per_group => 0", "per_group is 0"),
        ("columns => '{nope}'", "'nope'"),
        ("group_by => 'nope; drop table papers'", "drop table"),
        ("fusion => 'sum'", "no fusion 'sum'"),
        ("exclude => array['[1,2]'::vector]", "exclude vector has 2 dimensions"),
        ("exclude => array[null::vector]", "exclude vector is null"),
    ],
)
def test_bad_options_are_refused(shared: Connection, options: str, said: str) -> None:
    """The error names the option and its value."""
    statement = f"select pgembed.search('papers', '{random_query(1, 32)}'::vector, {options})"
    assert said in str(refused(shared, InputError, statement))


@ON_SHARED
@given(seed=st.integers(0, 99), bound=st.floats(-0.4, 0.6), hybrid=st.booleans())
def test_min_score_leaves_out_what_is_below(
    shared: Connection, seed: int, bound: float, hybrid: bool
) -> None:
    """Exactly the rows that reach the score come back."""
    words: dict[str, Any] = {"hybrid": True, "query_text": "red car"} if hybrid else {}
    query = random_query(seed, 32)
    whole = hits(shared, "papers", query, 60, **words)
    found = hits(shared, "papers", query, 60, min_score=bound, **words)
    assert [hit[0] for hit in found] == [hit[0] for hit in whole if hit[SCORE] >= bound]


def test_min_score_ends_a_search_through_the_index(points: Connection) -> None:
    """Nothing is looked for below the score: one pass of the index is enough."""
    told = scalar(
        points,
        "select data ->> 'passes' from pgembed.explain_search('points', %s::vector, 100, min_score => 0.9999)"
        " where name = 'dense arm'",
        (near_cluster(1),),
    )
    assert told == "1"


def test_columns_come_back_as_they_are_now(shared: Connection) -> None:
    """Fields hold the asked columns of the source, not of the time when it was embedded."""
    shared.execute("update papers set year = 1999, topic = null where id = 6")
    query = scalar(shared, "select embedding::text from pgembed_data.papers where id = 6")
    (hit,) = hits(shared, "papers", query, 1, columns=["year", "topic", "price"])
    assert hit[FIELDS] == {"year": 1999, "topic": None, "price": 7.5}


@ON_SHARED
@given(seed=st.integers(0, 99), k=st.integers(1, 20), per_group=st.integers(1, 4))
def test_groups_are_bounded_and_filled(
    shared: Connection, seed: int, k: int, per_group: int
) -> None:
    """The best rows of which no group has more than per_group, and as many of them as there are."""
    with shared.transaction(force_rollback=True):
        shared.execute("update papers set topic = null where id % 10 = 0")
        query = random_query(seed, 32)
        whole = hits(shared, "papers", query, 60, columns=["topic"])
        expected: list[str] = []
        seen: dict[str, int] = {}
        for hit in whole:
            topic = hit[FIELDS]["topic"]
            seen[topic] = seen.get(topic, 0) + 1
            if topic is None or seen[topic] <= per_group:
                expected.append(hit[0])
        found = hits(shared, "papers", query, k, group_by="topic", per_group=per_group)
        assert [hit[0] for hit in found] == expected[:k]


def test_groups_are_filled_through_the_index(points: Connection) -> None:
    """The nearest 500 rows are of one cluster: still each of the eight clusters has its row."""
    assert plan_of(points, "points", 12, {}) == "hnsw"
    found = hits(points, "points", near_cluster(0), 12, group_by="cluster", columns=["cluster"])
    assert sorted(hit[FIELDS]["cluster"] for hit in found) == list(range(8))


def test_exclude_turns_away(points: Connection) -> None:
    """Between two clusters, excluding one leaves the rows of the other in front."""
    between = np.zeros(8)
    between[[1, 2]] = 1
    query, unwanted = as_literal(between), np.eye(8)[2]

    def clusters(**options: Any) -> list[int]:
        found = hits(points, "points", query, 50, columns=["cluster"], **options)
        assert len(found) == 50
        return [hit[FIELDS]["cluster"] for hit in found]

    assert 5 < clusters().count(2) < 45
    excluding = clusters(exclude=[as_literal(unwanted)])
    assert excluding.count(2) == 0
    assert excluding.count(1) >= 45


def test_exclude_is_a_preference_not_a_filter(shared: Connection) -> None:
    """All matching rows still come back, penalised ones last; nothing excluded changes nothing."""
    query = random_query(1, 32)
    plain = hits(shared, "papers", query, 60)
    assert hits(shared, "papers", query, 60, exclude=[]) == plain
    assert len(hits(shared, "papers", query, 60, exclude=[random_query(2, 32)])) == 60
    itself = hits(shared, "papers", query, 60, exclude=[query])
    assert len(itself) == 60


def test_fusions_differ_only_in_scores(shared: Connection) -> None:
    """Every fusion returns all rows; rrf scores are sums of reciprocal ranks."""
    query, words = random_query(5, 32), {"hybrid": True, "query_text": "red apple"}
    for fusion in ("zscore", "minmax", "rrf"):
        assert len(hits(shared, "papers", query, 60, fusion=fusion, **words)) == 60
    best = hits(shared, "papers", query, 1, fusion="rrf", **words)[0]
    assert 1 / 61 <= best[SCORE] <= 2 / 61


def test_a_stored_fusion_serves(shared: Connection) -> None:
    """What is set for a collection is what hybrid searches do unless they say otherwise."""
    query, words = random_query(5, 32), {"hybrid": True, "query_text": "red apple"}
    asked = hits(shared, "papers", query, 10, fusion="minmax", lexical_weight=0.8, **words)
    assert hits(shared, "papers", query, 10, **words) != asked
    shared.execute("select pgembed.set_fusion('papers', 'minmax', 0.8)")
    assert hits(shared, "papers", query, 10, **words) == asked
    shared.execute("select pgembed.set_fusion('papers', null)")
    assert hits(shared, "papers", query, 10, **words) != asked

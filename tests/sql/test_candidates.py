"""pgembed.candidates."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg.types.json import Jsonb

from pgembed.database import Connection
from pgembed.errors import FilterError, InputError, NotFoundError
from tests.sql.support import refused
from tests.sql.test_search import hits, near_cluster, random_query

CANDIDATES = (
    "select key, dense_score, lexical_score, dense_rank, lexical_rank"
    " from pgembed.candidates(%s, %s::vector, %s, %s, %s)"
)
DENSE_SCORE, LEXICAL_SCORE, DENSE_RANK, LEXICAL_RANK = 1, 2, 3, 4
WORDS = "red chapter 13"


def candidates(
    connection: Connection, query: str, words: str | None = WORDS, depth: int = 100, **filter: Any
) -> list[tuple[Any, ...]]:
    """Candidates of ``papers``."""
    given = ("papers", query, words, depth, Jsonb(filter) if filter else None)
    return connection.execute(CANDIDATES, given).fetchall()


def by_rank(rows: list[tuple[Any, ...]], rank: int) -> list[str]:
    """Keys that an arm found, in its order."""
    return [
        row[0] for row in sorted((r for r in rows if r[rank] is not None), key=lambda r: r[rank])
    ]


@pytest.mark.parametrize("depth", [1, 5, 20, 100])
def test_they_are_the_first_rows_of_both_arms(shared: Connection, depth: int) -> None:
    """Each arm's are those of a search with that arm alone, ranked from 1."""
    query = random_query(1, 32)
    rows = candidates(shared, query, depth=depth)
    dense = [hit[0] for hit in hits(shared, "papers", query, min(depth, 60))]
    assert by_rank(rows, DENSE_RANK) == dense
    alone = hits(shared, "papers", query, 60, hybrid=True, query_text=WORDS, lexical_weight=1.0)
    said = [hit[0] for hit in alone if hit[6] > 0]
    assert by_rank(rows, LEXICAL_RANK) == said[:depth]
    assert {row[0] for row in rows} == {*dense, *said[:depth]}
    for rank in (DENSE_RANK, LEXICAL_RANK):
        assert sorted(row[rank] for row in rows if row[rank]) == list(
            range(1, len(by_rank(rows, rank)) + 1)
        )


def test_both_arms_score_every_candidate(shared: Connection) -> None:
    """Exactly, also a row that only the other arm has found; without any word the score is 0."""
    query = random_query(2, 32)
    everything = {row[0]: row for row in candidates(shared, query)}
    few = candidates(shared, query, depth=3)
    assert any(row[DENSE_RANK] is None for row in few)
    assert any(row[LEXICAL_RANK] is None for row in few)
    for row in few:
        whole = everything[row[0]]
        assert row[:3] == whole[:3]
    assert min(row[LEXICAL_SCORE] for row in everything.values()) == 0
    scores = [
        everything[key][DENSE_SCORE] for key in by_rank(list(everything.values()), DENSE_RANK)
    ]
    assert scores == sorted(scores, reverse=True)


def test_a_filter_holds_in_both_arms(shared: Connection) -> None:
    """No other row is a candidate."""
    rows = candidates(shared, random_query(3, 32), year=2006)
    assert sorted(row[0] for row in rows) == ["26", "46", "6"]
    assert candidates(shared, random_query(3, 32), year=1) == []


@pytest.mark.parametrize("words", ["", "the of and", "unheard", None])
def test_without_a_known_word_the_dense_arm_answers(shared: Connection, words: str | None) -> None:
    """All lexical scores are then 0, and no row has a lexical rank."""
    rows = candidates(shared, random_query(4, 32), words)
    assert len(rows) == 60
    assert {(row[LEXICAL_SCORE], row[LEXICAL_RANK]) for row in rows} == {(0.0, None)}


def test_they_come_through_the_index_too(points: Connection) -> None:
    """As many as were asked for, nearest first, where the HNSW index serves."""
    points.execute("select pgembed.refresh('points')")
    given = ("points", near_cluster(2), "chunk 17", 50, None)
    rows = points.execute(CANDIDATES, given).fetchall()
    assert len(by_rank(rows, DENSE_RANK)) == len(by_rank(rows, LEXICAL_RANK)) == 50


def test_what_cannot_be_asked_is_refused(shared: Connection) -> None:
    """A depth below 1, a vector of other dimensions or none, a wrong filter, no such collection."""
    query = random_query(1, 32)
    for depth in (0, -1, None):
        refused(shared, InputError, CANDIDATES, ("papers", query, WORDS, depth, None))
    for vector in ("[1,2]", None):
        refused(shared, InputError, CANDIDATES, ("papers", vector, WORDS, 10, None))
    wrong = Jsonb({"nope": 1})
    refused(shared, FilterError, CANDIDATES, ("papers", query, WORDS, 10, wrong))
    refused(shared, NotFoundError, CANDIDATES, ("nope", query, WORDS, 10, None))

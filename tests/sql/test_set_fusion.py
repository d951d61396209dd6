"""pgembed.set_fusion."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg.types.json import Jsonb

from pgembed.database import Connection
from pgembed.errors import InputError, NotFoundError
from tests.sql.support import refused, scalar
from tests.sql.test_search import hits, random_query

INSTALL = "select pgembed.set_fusion('papers', %s, %s)"
WORDS: dict[str, Any] = {"hybrid": True, "query_text": "red apple chapter"}


def test_it_serves_at_once(shared: Connection) -> None:
    """A hybrid search that names no fusion has the installed one, and any it names."""
    query = random_query(1, 32)
    given = {
        (kind, weight): hits(
            shared, "papers", query, 20, fusion=kind, lexical_weight=weight, **WORDS
        )
        for kind, weight in (("zscore", 0.3), ("zscore", 0.9), ("minmax", 0.5), ("rrf", 0.3))
    }
    assert hits(shared, "papers", query, 20, **WORDS) == given["zscore", 0.3]
    for (kind, weight), expected in given.items():
        shared.execute(INSTALL, (kind, weight))
        assert hits(shared, "papers", query, 20, **WORDS) == expected
        named = hits(shared, "papers", query, 20, fusion="rrf", **WORDS)
        assert named == given["rrf", 0.3]


def test_null_goes_back_to_the_default(shared: Connection) -> None:
    """The row is gone, and so is its effect; without a row it is no error."""
    query = random_query(2, 32)
    default = hits(shared, "papers", query, 20, **WORDS)
    shared.execute(INSTALL, ("rrf", 0.3))
    assert hits(shared, "papers", query, 20, **WORDS) != default
    for _ in range(2):
        shared.execute(INSTALL, (None, 0.3))
        assert hits(shared, "papers", query, 20, **WORDS) == default
    assert scalar(shared, "select count(*) from pgembed.fusion") == 0


def test_the_last_one_counts_with_its_metrics(shared: Connection) -> None:
    """There is one row a collection; time and metrics are those of the last call."""
    shared.execute(INSTALL, ("minmax", 0.5))
    shared.execute(
        "select pgembed.set_fusion('papers', 'zscore', 0.25, %s)", (Jsonb({"queries": 7}),)
    )
    row = shared.execute(
        "select kind, lexical_weight, metrics, fitted_at = now() from pgembed.fusion"
    ).fetchall()
    assert row == [("zscore", 0.25, {"queries": 7}, True)]


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_an_arm_alone_can_serve(shared: Connection, weight: float) -> None:
    """Weight 0 ranks by the dense scores only, weight 1 by the lexical ones."""
    shared.execute(INSTALL, ("zscore", weight))
    dense, lexical = 5, 6
    own = [
        hit[lexical if weight else dense]
        for hit in hits(shared, "papers", random_query(3, 32), 20, **WORDS)
    ]
    assert own == sorted(own, reverse=True)


def test_it_goes_with_its_collection(shared: Connection) -> None:
    """A dropped collection leaves none behind."""
    shared.execute(INSTALL, ("rrf", 0.3))
    shared.execute("select pgembed.drop_collection('papers')")
    assert scalar(shared, "select count(*) from pgembed.fusion") == 0


@pytest.mark.parametrize(
    ("kind", "weight"),
    [("nope", 0.3), ("", 0.3), ("ZSCORE", 0.3), ("zscore", -0.1), ("zscore", 1.1), ("zscore", None), ("minmax", float("nan"))],
)  # fmt: skip
def test_what_cannot_fuse_is_refused(shared: Connection, kind: str, weight: float | None) -> None:
    """An unknown kind, or a weight outside 0 to 1; what was there stays."""
    shared.execute(INSTALL, ("rrf", 0.4))
    refused(shared, InputError, INSTALL, (kind, weight))
    assert scalar(shared, "select (kind, lexical_weight)::text from pgembed.fusion") == "(rrf,0.4)"


def test_an_unknown_collection_is_refused(shared: Connection) -> None:
    """To install as well as to reset."""
    for kind in ("rrf", None):
        refused(shared, NotFoundError, "select pgembed.set_fusion('nope', %s)", (kind,))

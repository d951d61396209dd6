"""pgembed.build_index."""

from __future__ import annotations

from pgembed.database import Connection
from pgembed.errors import NotFoundError
from tests.sql.support import create_collection, refused, scalar

INDEXES = (
    "select count(*) from pg_index as i join pg_class as r on r.oid = i.indexrelid"
    " join pg_am as m on m.oid = r.relam"
    " where i.indrelid = 'pgembed_data.titles'::regclass and m.amname = 'hnsw' and i.indisvalid"
)


def test_it_is_built_once(shared: Connection) -> None:
    """The first call builds the index, and says so; the second has nothing to do."""
    create_collection(shared, "titles", "papers", ["title"])
    assert scalar(shared, INDEXES) == 0
    assert scalar(shared, "select pgembed.build_index('titles')") is True
    assert scalar(shared, INDEXES) == 1
    assert scalar(shared, "select pgembed.build_index('titles')") is False
    assert scalar(shared, INDEXES) == 1


def test_the_planner_uses_it(points: Connection) -> None:
    """The nearest chunks of a large collection are read from the index."""
    plan = points.execute(
        "explain select from pgembed_data.points order by embedding <=> '[1,0,0,0,0,0,0,0]' limit 5"
    ).fetchall()
    assert "points_embedding_idx" in str(plan)


def test_unknown_collection_is_refused(shared: Connection) -> None:
    """The error names it."""
    refused(shared, NotFoundError, "select pgembed.build_index('nope')")

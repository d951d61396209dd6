"""pgembed.chunks."""

from __future__ import annotations

import itertools

from pgembed.database import Connection
from pgembed.errors import NotFoundError
from tests.sql.support import embed, refused


def test_all_chunks_come_row_by_row(shared: Connection) -> None:
    """Every chunk with its embedding, those of one row together and in order."""
    shared.execute("select pgembed.mark_stale('papers')")
    embed(shared, "papers", chunk_length=10)
    rows = shared.execute(
        "select key, chunk_no, embedding::text from pgembed.chunks('papers')"
    ).fetchall()
    stored = shared.execute(
        "select id::text, chunk_no, embedding::text from pgembed_data.papers"
    ).fetchall()
    assert sorted(rows) == sorted(stored)
    assert len(rows) > 120
    firsts = [key for key, number, _ in rows if number == 0]
    assert len(firsts) == len(set(firsts)) == 60
    assert all(
        number == 0 or previous[:2] == (key, number - 1)
        for previous, (key, number, _) in itertools.pairwise(rows)
    )


def test_unknown_collection_is_refused(shared: Connection) -> None:
    """The error names it."""
    refused(shared, NotFoundError, "select pgembed.chunks('nope')")

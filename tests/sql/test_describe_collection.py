"""pgembed.describe_collection."""

from __future__ import annotations

from pgembed.database import Connection
from pgembed.errors import NotFoundError
from tests.sql.support import create_collection, refused, scalar


def test_it_tells_what_a_client_needs(shared: Connection) -> None:
    """One row: the collection's options, and its encoder's fingerprint and dimensions."""
    shared.execute('create table "My notes" (a int, "B" int, body text, primary key ("B", a))')
    create_collection(
        shared, "notes", '"My notes"', ["body", "a"], max_tokens=64, overlap=4, language="simple"
    )
    rows = shared.execute("select * from pgembed.describe_collection('notes')").fetchall()
    fingerprint = scalar(shared, "select fingerprint from pgembed.encoder where name = 'tiny'")
    version = scalar(shared, "select pgembed.routing_version('tiny')")
    assert rows == [
        (
            "notes",
            '"My notes"',
            ["B", "a"],
            ["body", "a"],
            64,
            4,
            "simple",
            "tiny",
            fingerprint,
            32,
            version,
        )
    ]


def test_unknown_collection_is_refused(shared: Connection) -> None:
    """The error lists those that exist."""
    error = refused(shared, NotFoundError, "select pgembed.describe_collection('nope')")
    assert "'papers'" in str(error.hint)

"""pgembed.set_content."""

from __future__ import annotations

from pgembed.database import Connection
from pgembed.errors import InputError, NotFoundError, SourceError
from tests.sql.support import column, refused, scalar, stale_keys

HASHES = "select count(*) from pgembed.claim('papers', 1, 1000) where cardinality(hashes) > 0"


def test_every_row_is_looked_at_again(shared: Connection) -> None:
    """All rows become stale under the new content, and keep what they have until embedded."""
    shared.execute("select pgembed.set_content('papers', '{topic,title}')")
    assert len(stale_keys(shared, "papers")) == 60
    assert scalar(shared, "select count(*) from pgembed_data.papers") == 60
    contents = column(
        shared, "select content from pgembed.claim('papers', 1, 1000) where key = '6'"
    )
    assert contents == ["a\nred apple number 6"]


def test_existing_chunks_are_offered_for_reuse(shared: Connection) -> None:
    """A claim shows the hashes of the chunks that exist, so that equal texts are not encoded."""
    shared.execute("alter table papers rename abstract to summary")
    shared.execute("select pgembed.set_content('papers', '{title,summary}')")
    assert scalar(shared, HASHES) == 60


def test_impossible_content_is_refused(shared: Connection) -> None:
    """No column, an unknown one, null: refused, and the content stays what it was."""
    for content in (None, [], [None], ["title", None]):
        error = refused(
            shared, InputError, "select pgembed.set_content('papers', %s::text[])", (content,)
        )
        assert "id, title, abstract" in str(error.hint)
    error = refused(shared, SourceError, "select pgembed.set_content('papers', '{title,nope}')")
    assert "nope" in str(error)
    refused(shared, NotFoundError, "select pgembed.set_content('nope', '{title}')")
    assert scalar(
        shared, "select content_columns from pgembed.collection where name = 'papers'"
    ) == ["title", "abstract"]
    assert stale_keys(shared, "papers") == []

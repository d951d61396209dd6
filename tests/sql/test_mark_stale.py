"""pgembed.mark_stale."""

from __future__ import annotations

from pgembed.database import Connection
from pgembed.errors import NotFoundError, SourceError
from tests.sql.support import embed, refused, scalar, stale_keys


def test_every_row_is_queued_once(shared: Connection) -> None:
    """All rows become stale; those that were get a new version, and lose their claim."""
    assert scalar(shared, "select pgembed.mark_stale('papers')") == 60
    versions = "select array_agg(version order by key) from pgembed.stale"
    before = scalar(shared, versions)
    shared.execute("select pgembed.claim('papers', 1)")
    assert scalar(shared, "select pgembed.mark_stale('papers')") == 60
    assert len(stale_keys(shared, "papers")) == 60
    assert min(scalar(shared, versions)) > max(before)
    claims = "select count(*) from pgembed.stale where claimed_by is not null or attempts > 0"
    assert scalar(shared, claims) == 0


def test_search_goes_on_meanwhile(shared: Connection) -> None:
    """Stored vectors serve until they are replaced."""
    shared.execute("select pgembed.mark_stale('papers')")
    search = "select count(*) from pgembed.search('papers', array_fill(1, '{32}')::vector, 100)"
    assert scalar(shared, search) == 60
    assert embed(shared, "papers") == 60
    assert scalar(shared, search) == 60


def test_impossible_sources_are_refused(shared: Connection) -> None:
    """An unknown collection, and one whose table is gone."""
    refused(shared, NotFoundError, "select pgembed.mark_stale('nope')")
    shared.execute("drop table papers cascade")
    refused(shared, SourceError, "select pgembed.mark_stale('papers')")

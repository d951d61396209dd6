"""pgembed.touch_router."""

from __future__ import annotations

from psycopg.types.json import Jsonb

from pgembed.database import Connection
from pgembed.errors import NotFoundError
from tests.sql.support import refused, scalar


def test_clients_notice(shared: Connection) -> None:
    """The version counts on, the routing version changes, and nothing else does."""
    version_of = "select routing_version from pgembed.describe_collection('papers')"
    everything = "select (encoder, kind, parameters, metrics)::text from pgembed.router"
    scalar(shared, "select pgembed.set_router('tiny', 'knn', %s)", (Jsonb({"neighbours": 3}),))
    shared.execute("insert into pgembed.utility values ('tiny', 'd', 'base', 0, 1, 1)")
    shared.execute("insert into pgembed.router_reference select 'tiny', 'd', 0, '[1,0]'")
    before = scalar(shared, version_of), scalar(shared, everything)
    assert scalar(shared, "select pgembed.touch_router('tiny')") == 2
    assert scalar(shared, "select pgembed.touch_router('tiny')") == 3
    assert scalar(shared, version_of) != before[0]
    assert scalar(shared, everything) == before[1]
    assert scalar(shared, "select count(*) from pgembed.utility, pgembed.router_reference") == 1


def test_what_is_not_there_is_said(shared: Connection) -> None:
    """An unknown encoder, and one without a router."""
    error = refused(shared, NotFoundError, "select pgembed.touch_router('tiny')")
    assert "pgembed router build" in str(error.hint)
    refused(shared, NotFoundError, "select pgembed.touch_router('nope')")

"""Rows that arrive by logical replication, into a collection with capture => 'always'."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgembed.database import Connection, connect
from tests.reliability.processes import WorkerProcess
from tests.reliability.support import (
    drained,
    eventually,
    judge,
    make_notes,
    own_server,
    put,
    value,
    waiting,
)


def arrived(publisher: Connection, subscriber: Connection) -> None:
    """Wait until the subscriber has the publisher's rows, and its worker embedded them."""
    rows = "select coalesce(array_agg(n order by n.id), '{}')::text from notes as n"
    wanted = value(publisher, rows)
    eventually(lambda: value(subscriber, rows) == wanted, "the subscriber has every row", 40)
    drained(subscriber)


@pytest.mark.slow
def test_a_subscriber_follows_its_publisher() -> None:
    """Insert, update, delete and change of key, all through a real subscription."""
    with own_server(wal_level="logical") as (server, _):
        here = conninfo_to_dict(server.url)
        with psycopg.connect(server.url, autocommit=True) as admin:
            admin.execute("create database publisher")
        source = make_conninfo(**{**here, "dbname": "publisher"})
        with connect(source) as publisher, connect(server.url) as subscriber:
            publisher.execute("create table notes (id bigint primary key, body text)")
            make_notes(subscriber, capture="always")
            # Not truncate: the foreign key of our chunks stops a subscription that applies one.
            publisher.execute(
                "create publication ours for table notes with (publish = 'insert, update, delete')"
            )
            # On one server a subscription cannot make its slot itself: it would wait for itself.
            publisher.execute("select pg_create_logical_replication_slot('ours', 'pgoutput')")
            subscriber.execute(
                "create subscription ours connection "
                + psycopg.sql.Literal(source).as_string()
                + " publication ours with (create_slot = false, slot_name = 'ours')"
            )
            try:
                with WorkerProcess(server.url):
                    follow(publisher, subscriber)
            finally:
                subscriber.execute("alter subscription ours disable")
                subscriber.execute("alter subscription ours set (slot_name = none)")
                subscriber.execute("drop subscription ours")


def follow(publisher: Connection, subscriber: Connection) -> None:
    """Write at the one, and judge at the other."""
    bodies = {number: f"published {number}" for number in range(1, 301)}
    put(publisher, bodies)
    arrived(publisher, subscriber)
    assert judge(subscriber, bodies).clean
    put(publisher, {2: "changed"})
    publisher.execute("delete from notes where id between 10 and 19")
    publisher.execute("update notes set id = id + 1000 where id between 20 and 24")
    bodies |= {2: "changed"} | {number + 1000: bodies[number] for number in range(20, 25)}
    bodies = {key: body for key, body in bodies.items() if not 10 <= key <= 24}
    arrived(publisher, subscriber)
    verdict = judge(subscriber, bodies)
    assert verdict.clean, verdict
    assert waiting(subscriber) == 0

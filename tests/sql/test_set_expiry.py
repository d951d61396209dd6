"""Rows that expire: create_collection(expires), set_expiry, sweep."""

from __future__ import annotations

import pytest

from pgembed.database import Connection
from pgembed.errors import InputError, SourceError
from tests.sql.support import column, embed, refused, scalar, stale_keys

FOUND = "select key from pgembed.search('news', array_fill(1, '{4}')::vector, 100) order by key"
CHUNKS = "select id from pgembed_data.news order by id"


@pytest.fixture
def news(shared: Connection) -> Connection:
    """Five rows: two expire later, one has expired, two stay."""
    shared.execute(
        "insert into pgembed.encoder (name, fingerprint, dimensions, max_tokens, pooling, source)"
        " values ('plain', repeat('ab', 32), 4, 64, 'mean', 'nowhere')"
    )
    shared.execute("create table news (id bigint primary key, body text, gone_at timestamptz)")
    shared.execute(
        "insert into news values (1, 'one', now() + interval '1 hour'), (2, 'two', now() + interval '1 hour'),"
        " (3, 'three', now() - interval '1 hour'), (4, 'four', null), (5, 'five', null)"
    )
    shared.execute(
        "select pgembed.create_collection('news', 'news', '{body}', 'plain', expires => 'gone_at')"
    )
    embed(shared, "news")
    return shared


def expire(connection: Connection, number: int) -> None:
    """Let a row's time have passed without a writer's doing."""
    connection.execute("alter table news disable trigger user")
    connection.execute("update news set gone_at = now() - interval '1 s' where id = %s", (number,))
    connection.execute("alter table news enable trigger user")


def test_expired_rows_are_neither_embedded_nor_found(news: Connection) -> None:
    """What has expired before it was embedded costs nothing."""
    assert column(news, CHUNKS) == [1, 2, 4, 5]
    assert column(news, FOUND) == ["1", "2", "4", "5"]


def test_a_row_leaves_search_at_once_and_storage_by_sweep(news: Connection) -> None:
    """No worker has to run for the first; the second is a deletion through the queue."""
    expire(news, 1)
    assert column(news, FOUND) == ["2", "4", "5"]
    assert column(news, CHUNKS) == [1, 2, 4, 5]
    assert scalar(news, "select pgembed.sweep('news')") == 1
    assert scalar(news, "select pgembed.sweep('news')") == 0
    embed(news, "news")
    assert column(news, CHUNKS) == [2, 4, 5]
    assert scalar(news, "select count(*) from news") == 5


def test_a_filter_and_the_expiry_hold_together(news: Connection) -> None:
    """An or in the filter does not bring an expired row back."""
    expire(news, 1)
    keys = column(
        news,
        "select key from pgembed.search('news', array_fill(1, '{4}')::vector, 100,"
        ' filter => \'{"or": [{"id": 1}, {"id": 4}]}\')',
    )
    assert keys == ["4"]


def test_a_row_that_lives_on_comes_back(news: Connection) -> None:
    """A later time, or none, is a change: the row is embedded anew if its chunks were swept."""
    expire(news, 1)
    news.execute("select pgembed.sweep('news')")
    embed(news, "news")
    news.execute("update news set gone_at = null where id = 1")
    assert stale_keys(news, "news") == ["1"]
    embed(news, "news")
    assert column(news, FOUND) == ["1", "2", "4", "5"]


def test_expiry_can_be_given_up_and_named_anew(news: Connection) -> None:
    """Without it expired rows stay; rows that had left come back."""
    news.execute("select pgembed.set_expiry('news', null)")
    embed(news, "news")
    assert column(news, FOUND) == ["1", "2", "3", "4", "5"]
    news.execute("select pgembed.set_expiry('news', 'gone_at')")
    assert column(news, FOUND) == ["1", "2", "4", "5"]


def test_a_lost_column_is_named(news: Connection) -> None:
    """Searches say what is missing and what to do; writers go on."""
    news.execute("alter table news rename gone_at to until")
    news.execute("insert into news values (6, 'six', null)")
    error = refused(news, SourceError, FOUND)
    assert "gone_at" in str(error)
    assert "set_expiry('news'" in str(error.hint)
    news.execute("select pgembed.set_expiry('news', 'until')")
    embed(news, "news")
    assert column(news, FOUND) == ["1", "2", "4", "5", "6"]


@pytest.mark.parametrize(
    ("expires", "error", "said"),
    [("nope", SourceError, "gone_at"), ("body", InputError, "timestamp with time zone")],
)
def test_columns_that_cannot_serve_are_refused(
    news: Connection, expires: str, error: type, said: str
) -> None:
    """They must exist, and say a moment."""
    refusal = refused(news, error, "select pgembed.set_expiry('news', %s)", (expires,))
    assert said in str(refusal)


def test_failures_of_deleted_rows_are_forgotten(news: Connection) -> None:
    """A row that is gone cannot be tried again."""
    news.execute(
        "insert into pgembed.failure values ('news', '4', 'bad', 1), ('news', '9', 'bad', 1)"
    )
    news.execute("select pgembed.sweep('news')")
    assert column(news, "select key from pgembed.failure") == ["4"]

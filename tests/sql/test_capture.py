"""Collections with capture => 'always': what arrives by replication is followed too."""

from __future__ import annotations

import pytest

from pgembed.database import Connection
from pgembed.errors import InputError
from tests.sql.support import clear_queue, column, create_collection, embed, refused, stale_keys


@pytest.fixture
def followed(papers: Connection) -> Connection:
    """Collection ``papers`` made anew, seeing every writer; in step."""
    papers.execute("select pgembed.drop_collection('papers')")
    papers.execute(
        "select pgembed.create_collection('papers', 'papers', '{title}', 'tiny', capture => 'always')"
    )
    embed(papers, "papers")
    papers.execute("set session_replication_role = replica")
    return papers


def test_replicated_writes_are_noticed(followed: Connection) -> None:
    """Foreign keys do not cascade there: deletes and old keys are queued, and their chunks go."""
    followed.execute("insert into papers (id, title) values (61, 'new')")
    followed.execute("update papers set title = 'changed' where id = 1")
    followed.execute("update papers set year = 1 where id = 2")
    followed.execute("delete from papers where id = 3")
    followed.execute("update papers set id = 100 where id = 4")
    assert stale_keys(followed, "papers") == ["1", "100", "3", "4", "61"]
    assert column(followed, "select id from pgembed_data.papers where id in (3, 4)") == [3, 4]
    embed(followed, "papers")
    left = "select id from pgembed_data.papers where id in (3, 4, 61, 100) order by id"
    assert column(followed, left) == [61, 100]


def test_a_replicated_truncate_empties_the_collection(followed: Connection) -> None:
    """All of its chunks are queued for deletion."""
    followed.execute("set session_replication_role = origin")
    followed.execute("create table other (like papers including all)")
    followed.execute("set session_replication_role = replica")
    followed.execute("truncate papers cascade")
    embed(followed, "papers")
    assert column(followed, "select id from pgembed_data.papers") == []


def test_writers_of_its_own_are_followed_as_well(followed: Connection) -> None:
    """Cascades work there; each row is queued once."""
    followed.execute("set session_replication_role = origin")
    followed.execute("update papers set title = 'changed' where id in (1, 2)")
    followed.execute("delete from papers where id = 3")
    assert stale_keys(followed, "papers") == ["1", "2", "3"]
    embed(followed, "papers")
    assert stale_keys(followed, "papers") == []


def test_others_do_not_see_replicated_writes(papers: Connection) -> None:
    """The default leaves replication alone, as triggers do; mark_stale catches up."""
    papers.execute("set session_replication_role = replica")
    papers.execute("update papers set title = 'changed' where id = 1")
    assert stale_keys(papers, "papers") == []
    papers.execute("select pgembed.mark_stale('papers')")
    assert len(stale_keys(papers, "papers")) == 60


def test_partitions_are_followed_always(shared: Connection) -> None:
    """The triggers of a partitioned table fire in its partitions under replication too."""
    shared.execute("create table log (id bigint primary key, body text) partition by range (id)")
    shared.execute("create table log_1 partition of log for values from (0) to (100)")
    shared.execute(
        "select pgembed.create_collection('log', 'log', '{body}', 'tiny', capture => 'always')"
    )
    clear_queue(shared)
    shared.execute("set session_replication_role = replica")
    shared.execute("insert into log_1 values (1, 'a')")
    shared.execute("update log set body = 'b' where id = 1")
    assert stale_keys(shared, "log") == ["1"]


def test_other_words_are_refused(shared: Connection) -> None:
    """The error says which there are."""
    error = refused(
        shared,
        InputError,
        "select pgembed.create_collection('x', 'papers', '{title}', 'tiny', capture => 'sometimes')",
    )
    assert "always" in str(error)
    create_collection(shared, "x", "papers", ["title"])

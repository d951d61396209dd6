"""pgembed.worker: a process that answers and keeps collections in step."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgembed.collections import list_collections
from pgembed.database import Connection
from pgembed.errors import InputError, NotFoundError
from pgembed.fusions import list_fusions
from pgembed.loopback import set_up_loopback
from pgembed.registry import register_encoder
from pgembed.router_record import router_record
from pgembed.schema import migrate
from pgembed.searching import search
from pgembed.worker import WorkerOptions, run
from pgembed.worker.counters import Counters
from pgembed.worker.health import serve
from pgembed.workers import list_workers, recent_failures
from tests.databases import url_of
from tests.sql.support import column, scalar, stale_keys
from tests.test_cli import Command, pgembed  # noqa: F401 - a fixture
from tests.test_syncing import make_fragile_encoder


@contextmanager
def working(connection: Connection, **options: object) -> Iterator[Counters]:
    """A worker in a thread of this process, for the time of the block."""
    counters, stop = Counters(), threading.Event()
    given = WorkerOptions(url=url_of(connection), poll=0.05, **options)  # type: ignore[arg-type]
    thread = threading.Thread(
        target=run, args=(given,), kwargs={"counters": counters, "stop": stop}
    )
    thread.start()
    try:
        yield counters
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def test_changes_are_embedded_by_themselves(papers: Connection) -> None:
    """Inserts, updates and deletes reach the side table without anybody's call."""
    with working(papers):
        papers.execute("insert into papers (id, title) values (61, 'violet comet')")
        papers.execute("update papers set title = 'golden gate', abstract = null where id = 1")
        papers.execute("delete from papers where id = 2")
        eventually(lambda: stale_keys(papers, "papers") == [])
    found = "select content from pgembed_data.papers where id in (1, 2, 61) order by id"
    assert column(papers, found) == ["golden gate", "violet comet"]


def test_it_works_once_and_ends(papers: Connection) -> None:
    """With once it ends by itself when nothing waits."""
    papers.execute("update papers set title = 'x' || id")
    counters = run(WorkerOptions(url=url_of(papers), once=True))
    assert counters.documents == 60
    assert stale_keys(papers, "papers") == []


def test_only_named_collections_are_served(papers: Connection) -> None:
    """The others wait for another worker; an unknown name is refused at once."""
    papers.execute(
        "select pgembed.create_collection('titles', source => 'papers', content => '{title}',"
        " encoder => 'tiny')"
    )
    papers.execute("update papers set title = 'y' where id = 1")
    run(WorkerOptions(url=url_of(papers), once=True, collections=("papers",)))
    assert stale_keys(papers, "papers") == []
    assert len(stale_keys(papers, "titles")) == 60
    with pytest.raises(NotFoundError, match="nope"):
        run(WorkerOptions(url=url_of(papers), once=True, collections=("nope",)))


def test_priorities_hold_between_collections(papers: Connection) -> None:
    """An edit is embedded while another collection is being built."""
    papers.execute("create table big (id bigint primary key, body text)")
    papers.execute("insert into big select n, 'row ' || n from generate_series(1, 2000) as n")
    papers.execute(
        "select pgembed.create_collection('big', source => 'big', content => '{body}', encoder => 'tiny')"
    )
    with working(papers, batch_rows=16):
        eventually(lambda: scalar(papers, "select count(*) from pgembed_data.big") > 0)
        papers.execute("insert into papers (id, title) values (61, 'violet comet')")
        eventually(lambda: stale_keys(papers, "papers") == [])
        assert scalar(papers, "select count(*) from pgembed.stale where collection = 'big'") > 0


def test_a_rate_is_kept(papers: Connection) -> None:
    """Rows a second, so that the database has time for others."""
    papers.execute("update papers set title = 'x' || id where id <= 30")
    started = time.monotonic()
    run(WorkerOptions(url=url_of(papers), once=True, rate=10))
    assert time.monotonic() - started >= 2


def test_a_broken_collection_does_not_stop_the_others(papers: Connection) -> None:
    """It rests, the error is shown, and the others are embedded."""
    papers.execute("create table lost (id bigint primary key, body text)")
    papers.execute("insert into lost values (1, 'a')")
    papers.execute(
        "select pgembed.create_collection('lost', source => 'lost', content => '{body}', encoder => 'tiny')"
    )
    papers.execute("alter table lost drop column body")
    papers.execute("update papers set title = 'x' where id = 1")
    counters = run(WorkerOptions(url=url_of(papers), once=True))
    assert stale_keys(papers, "papers") == []
    assert "set_content" in str(counters.last_error)
    assert scalar(papers, "select last_error from pgembed.worker_status()") is not None


def test_times_are_read_under_any_datestyle(papers: Connection) -> None:
    """The status of workers and collections, failures, fusions and the router."""
    papers.execute(
        "update pgembed.collection set paused_at = now();"
        " insert into pgembed.failure (collection, key, error, attempts) values ('papers', '1', 'e', 1);"
        " insert into pgembed.fusion (collection, kind, lexical_weight) values ('papers', 'rrf', 1);"
        " select pgembed.set_router('tiny', 'uniform', '{}')"
    )
    run(WorkerOptions(url=url_of(papers), once=True))

    def read() -> tuple[object, ...]:
        record = router_record(papers, "tiny")
        assert record is not None
        return (
            [each.seen_at for each in list_workers(papers)],
            [each.paused_at for each in list_collections(papers)],
            [each.failed_at for each in recent_failures(papers)],
            [each.fitted_at for each in list_fusions(papers)],
            record.built_at,
        )

    expected = read()
    assert all(expected)
    papers.execute("set datestyle = 'SQL, DMY'")
    assert read() == expected


def test_it_comes_back_after_its_sessions_are_killed(papers: Connection) -> None:
    """Every loop connects anew, and what was claimed is embedded."""
    kill = (
        "select count(pg_terminate_backend(pid)) from pg_stat_activity"
        " where application_name = 'pgembed worker' and datname = current_database()"
    )
    with working(papers) as counters:
        eventually(lambda: scalar(papers, kill) == 3)
        papers.execute("update papers set title = 'x' where id <= 5")
        eventually(lambda: stale_keys(papers, "papers") == [])
        assert counters.last_error is not None
        eventually(counters.healthy)


def test_the_index_is_built_when_the_first_load_is_done(papers: Connection) -> None:
    """And not by a role that does not own the table, which says so once."""
    papers.execute("drop index pgembed_data.papers_embedding_idx")
    run(WorkerOptions(url=url_of(papers), once=True))
    assert scalar(papers, "select pgembed.has_hnsw('papers')")


def test_its_state_is_served_over_http(papers: Connection) -> None:
    """200 while its loops live, 503 when one is stuck, and metrics for Prometheus."""
    counters = Counters()
    server = serve(counters, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        counters.beat("documents-1")
        counters.wrote(3, 4, 1)
        with urllib.request.urlopen(f"{address}/health") as answer:
            assert json.load(answer)["healthy"] is True
        with urllib.request.urlopen(f"{address}/metrics") as answer:
            metrics = answer.read().decode()
        assert "pgembed_worker_documents_total 3.0" in metrics
        assert "pgembed_worker_healthy 1.0" in metrics
        counters._beats["documents-1"] -= 60
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{address}/health")
        assert refused.value.code == 503
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{address}/")
        refused.value.close()
        with pytest.raises(InputError, match="cannot listen"):
            serve(counters, "127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "wrong", [{"rate": 0}, {"batch_rows": 0}, {"lease": 0}, {"concurrency": 0, "queries": False}]
)
def test_impossible_options_are_refused(wrong: dict[str, Any]) -> None:
    """The error names the value."""
    with pytest.raises(InputError):
        WorkerOptions(**wrong)


def command(*arguments: str, url: str) -> subprocess.Popen[str]:
    """The worker as a process, as a DBA starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "pgembed", "worker", "--poll", "0.05", "--url", url, *arguments],
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_logs_json_and_ends_on_sigterm(papers: Connection) -> None:
    """Each line is an event with its fields; what waits is embedded; the exit status is 0."""
    papers.execute("update papers set title = 'x' where id <= 5")
    with command("--log", "json", url=url_of(papers)) as process:
        try:
            eventually(lambda: stale_keys(papers, "papers") == [], 60)
        finally:
            process.terminate()
        _, log = process.communicate(timeout=30)
    events = [json.loads(line) for line in log.splitlines()]
    assert process.returncode == 0, log
    (embedded,) = [event for event in events if event["message"] == "embedded"]
    assert (embedded["collection"], embedded["documents"]) == ("papers", 5)
    assert events[-1]["message"] == "stopped"


def test_the_command_fails_where_rows_failed(papers: Connection, tmp_path: Path) -> None:
    """With --once the exit status says it, for cron."""
    register_encoder(papers, str(make_fragile_encoder(tmp_path / "fragile")))
    papers.execute("create table notes (id bigint primary key, body text)")
    papers.execute("insert into notes values (1, '42'), (2, 'fine')")
    papers.execute(
        "select pgembed.create_collection('notes', source => 'notes', content => '{body}',"
        " encoder => 'fragile')"
    )
    with command("--once", url=url_of(papers)) as process:
        _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "gave a vector that cannot be used" in log
    assert column(papers, "select key from pgembed.failure") == ["1"]


def test_status_pause_resume_and_retry(papers: Connection, pgembed: Command) -> None:  # noqa: F811
    """What a DBA sees and does, on the command line."""
    url = url_of(papers)
    assert pgembed("status", url=url).status == 0
    assert pgembed("pause", "papers", url=url).status == 0
    papers.execute("update papers set title = 'x' where id = 1")
    papers.execute("insert into pgembed.failure values ('papers', '2', 'too odd', 1)")
    answer = pgembed("status", "--json", url=url)
    assert answer.status == 1
    state = json.loads(answer.out)
    (one,) = state["collections"]
    assert (one["stale"], one["failed"]) == (1, 1)
    assert one["paused_at"] is not None
    assert state["failures"][0]["error"] == "too odd"
    assert "too odd" in pgembed("status", url=url).out
    assert pgembed("resume", "papers", url=url).status == 0
    answer = pgembed("retry", url=url)
    assert "papers: 1 rows are tried again" in answer.out
    assert "too odd" in answer.out
    with working(papers):
        eventually(lambda: stale_keys(papers, "papers") == [])
    assert pgembed("status", url=url).status == 0


def test_query_texts_are_answered_one_after_the_other(papers: Connection) -> None:
    """As the client would encode and route them, each well within the timeout; an error as well."""
    set_up_loopback(url_of(papers))
    texts = ("red apple", "deep ocean", 'it\'s \\ "quoted"')
    try:
        with working(papers, concurrency=0) as counters:
            eventually(lambda: scalar(papers, "select pgembed.has_encode_worker('tiny')"))
            for text in texts:
                found = column(papers, "select key from pgembed.search('papers', %s)", (text,))
                assert found == [hit.key for hit in search(papers, "papers", text)]
            with pytest.raises(psycopg.Error) as refused:
                papers.execute("select pgembed.encode('papers', 'red apple', 'nobody')")
            assert refused.value.sqlstate == "PGE01"
            eventually(lambda: counters.requests == len(texts))
    finally:
        migrate(url_of(papers), revision="base")


def test_fresh_searches_see_what_was_just_written(papers: Connection) -> None:
    """The worker embeds it while the search waits."""
    set_up_loopback(url_of(papers))
    fresh = "select key from pgembed.search('papers', 'violet comet', k => 1, fresh => true)"
    try:
        with working(papers):
            eventually(lambda: scalar(papers, "select pgembed.has_encode_worker('tiny')"))
            papers.execute("insert into papers (id, title) values (61, 'violet comet')")
            assert column(papers, fresh) == ["61"]
            papers.execute("update papers set title = 'red apple' where id = 61")
            papers.execute("insert into papers (id, title) values (62, 'violet comet')")
            assert column(papers, fresh) == ["62"]
    finally:
        migrate(url_of(papers), revision="base")

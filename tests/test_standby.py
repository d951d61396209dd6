"""Query texts on a hot standby: the request goes to the primary."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgembed.database import connect
from pgembed.errors import WorkerError
from pgembed.loopback import set_up_loopback
from pgembed.registry import register_encoder
from pgembed.schema import migrate
from pgembed.server import EmbeddedServer
from pgembed.server.binaries import binaries_for
from pgembed.server.cluster import free_port
from pgembed.server.home import Home
from pgembed.server.identity import execute, service_account
from tests.conftest import make_papers
from tests.sql.support import refused, scalar
from tests.sql.texts import working

CARELESS = {"fsync": "off", "synchronous_commit": "off"}


@contextmanager
def standby_of(url: str, home: Path) -> Iterator[str]:
    """A hot standby of an embedded server, by its own pg_basebackup."""
    account = service_account()
    programs = binaries_for(account, Home(home))
    directory = home / "standby"
    directory.mkdir(mode=0o700)
    if account:
        os.chown(directory, account.uid, account.gid)
    port = free_port()
    options = f"-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
    data = str(directory / "data")
    backup = ("--pgdata", data, "--write-recovery-conf", "--checkpoint=fast", "--no-sync")

    def run(program: str, *arguments: str) -> None:
        with (home / "standby.log").open("a+b") as log:
            command = (str(programs / program), *arguments)
            status = execute(command, account=account, home=home, output=log)
        assert status == 0, (home / "standby.log").read_text()

    run("pg_basebackup", *backup, "--dbname", url)
    run("pg_ctl", "-D", data, "-s", "-w", "-o", options, "start")
    try:
        yield make_conninfo(**{**conninfo_to_dict(url), "port": str(port)})
    finally:
        run("pg_ctl", "-D", data, "-s", "-w", "-m", "immediate", "stop")


@pytest.mark.slow
def test_a_hot_standby_answers_texts(tiny_directory: Path) -> None:
    """Encode and search on the standby give what the primary gives; without a worker, the error."""
    with tempfile.TemporaryDirectory(prefix="pgembed-test-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        with EmbeddedServer(home, settings=CARELESS) as server:
            migrate(server.url)
            set_up_loopback(server.url)
            with connect(server.url) as primary:
                register_encoder(primary, str(tiny_directory), name="tiny")
                make_papers(primary)
                with standby_of(server.url, home) as url, connect(url) as standby:
                    compare(primary, standby, server.url)


def compare(primary: psycopg.Connection, standby: psycopg.Connection, url: str) -> None:
    """What the standby promises, beside its primary."""
    end = scalar(primary, "select pg_current_wal_lsn()")
    while not scalar(standby, "select pg_last_wal_replay_lsn() >= %s::pg_lsn", (end,)):
        time.sleep(0.02)
    assert scalar(standby, "select pg_is_in_recovery()")
    query = "select pgembed.encode('papers', 'red apple')"
    started = time.monotonic()
    error = refused(standby, WorkerError, query)
    assert time.monotonic() - started < 1
    assert "pgembed worker" in str(error.hint)
    search = "select key, score from pgembed.search('papers', 'red apple', 5, hybrid => true)"
    source = "select source from pgembed.query_vector('papers', %s, 'soft')"
    with working(url) as worker:
        assert scalar(standby, query) == scalar(primary, query)
        assert worker.asked == ["red apple", "red apple"]
        assert scalar(standby, source, ("red apple",)) == "memo"
        assert standby.execute(search).fetchall() == primary.execute(search).fetchall()
        assert scalar(standby, source, ("another",)) == "worker"
        # In the cache of the primary by now, which it asks for a text that it has no memo of.
        assert scalar(standby, source, ("red apple",)) == "cache"
        assert worker.asked == ["red apple", "red apple", "another"]
    assert scalar(standby, "select pgembed.check_loopback()") is None

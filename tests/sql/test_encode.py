"""pgembed.encode: query texts from plain SQL."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgembed.database import Connection, connect
from pgembed.errors import InputError, NotFoundError, WorkerError
from pgembed.linear_expert import LinearExpert
from pgembed.registry import open_registered
from tests.databases import url_of
from tests.sql.support import column, refused, scalar
from tests.sql.texts import Answer, Worker, hanging, take, working

SOURCE = "select source from pgembed.query_vector('papers', %s, %s)"
ENCODE = "select pgembed.encode('papers', %s)"


def source(connection: Connection, text: str, mode: str = "soft") -> str:
    """Where the vector of a text comes from."""
    return str(scalar(connection, SOURCE, (text, mode)))


def waiting(connection: Connection) -> int:
    """Requests that are in the table."""
    return int(scalar(connection, "select count(*) from pgembed.encode_request"))


def seconds(call: Callable[[], Any]) -> float:
    """How long a call takes."""
    started = time.monotonic()
    call()
    return time.monotonic() - started


def test_the_vector_is_that_of_the_encoder(texts: Connection, worker: Worker) -> None:
    """What a client would encode itself comes back."""
    expected = open_registered(texts, "tiny").encode_query(["red apple"])[0]
    for mode in ("soft", "hard", "base"):
        found = scalar(texts, "select pgembed.encode('papers', 'red apple', %s)::real[]", (mode,))
        assert np.allclose(found, expected, atol=1e-6)


def test_the_second_time_is_from_the_memo_the_third_session_from_the_cache(
    texts: Connection, texts_url: str, worker: Worker
) -> None:
    """A session keeps its last vector; the cache keeps a text that was asked for twice."""
    assert [source(texts, "red apple"), source(texts, "red apple")] == ["worker", "memo"]
    assert column(texts, "select embedding from pgembed.encode_cache") == [None]
    for expected in ("worker", "cache"):
        with connect(texts_url) as another:
            assert source(another, "red apple") == expected
    assert worker.asked == ["red apple", "red apple"]
    assert source(texts, "another") == "worker"
    assert source(texts, "red apple") == "cache"
    assert source(texts, "red apple", "base") == "worker"


def test_texts_that_are_asked_for_at_once_are_kept_at_once(texts: Connection) -> None:
    """Two requests of one text in one batch count as two."""
    claimer = scalar(texts, "select pgembed.register_claimer()")
    with hanging(url_of(texts)):
        for text in ("twice", "twice", "once"):
            texts.execute("select pgembed.submit_request('tiny', 'soft', %s)", (text,))
        requests = take(texts, claimer)
    assert [request[4] for request in requests] == ["twice", "twice", "once"]
    texts.execute(
        "select pgembed.answer_requests(%s, %s, array_fill('[1, 2]'::vector, '{3}'), '{}', '{}', '{}')",
        (claimer, [request[0] for request in requests]),
    )
    kept = texts.execute("select count(*), count(embedding) from pgembed.encode_cache").fetchone()
    assert kept == (2, 1)


def test_another_routing_has_other_vectors(texts: Connection, worker: Worker) -> None:
    """A new expert counts at the next call: neither memo nor cache has the old vector."""
    rng = np.random.default_rng(3)
    down, up = rng.standard_normal((32, 4)) / 6, rng.standard_normal((4, 32)) / 6
    expert = LinearExpert(down.astype(np.float32), up.astype(np.float32))
    try:
        before = scalar(texts, ENCODE, ("slow train",))
        texts.execute(
            "insert into pgembed.expert (encoder, name, kind, fingerprint, artifact)"
            " select name, 'fast', 'linear', fingerprint, %s from pgembed.encoder where name = 'tiny'",
            (expert.to_bytes(),),
        )
        assert source(texts, "slow train") == "worker"
        assert scalar(texts, ENCODE, ("slow train",)) == before
        named = scalar(texts, "select pgembed.encode('papers', 'slow train', 'fast')")
        assert named != before
    finally:
        texts.execute("delete from pgembed.expert where name = 'fast'")


def test_a_routing_that_is_not_committed_is_not_kept(texts: Connection, worker: Worker) -> None:
    """The worker answers by the routing that it sees, so nothing is kept for the coming one."""
    with texts.transaction(force_rollback=True):
        texts.execute("""select pgembed.set_router('tiny', 'pilot', '{"temperature": 0.2}')""")
        assert [source(texts, "pear"), source(texts, "pear")] == ["worker", "worker"]
        assert scalar(texts, "select coalesce(current_setting('pgembed.memo_key', true), '')") == ""


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ("'papers', null", InputError, "null"),
        ("'papers', ''", InputError, "empty"),
        ("'papers', E' \\t\\n '", InputError, "empty"),
        ("'papers', 'text', 'nope'", NotFoundError, "no active expert 'nope'"),
        ("'papers', 'text', null", NotFoundError, "no such mode"),
        ("'pappers', 'text'", NotFoundError, "no collection 'pappers'"),
    ],
)
def test_what_cannot_be_encoded_is_refused_at_once(
    texts: Connection, arguments: str, error: type[Exception], said: str
) -> None:
    """The value is named without a worker: none is running here."""
    assert said in str(refused(texts, error, f"select pgembed.encode({arguments})"))


@pytest.mark.parametrize(
    "opening",
    [
        "begin read only",
        "begin isolation level repeatable read",
        "begin isolation level serializable read only",
        "begin isolation level serializable",
        "begin; savepoint one",
        "begin; insert into papers (id, title) values (1000, 'not committed')",
    ],
)
def test_it_works_in_any_transaction(texts: Connection, worker: Worker, opening: str) -> None:
    """Read only, with a fixed snapshot, within a savepoint, after a write; a rollback hurts nothing."""
    texts.execute(opening)
    assert source(texts, f"first {opening}") == "worker"
    assert source(texts, f"second {opening}") == "worker"
    texts.execute("rollback")
    assert source(texts, f"third {opening}") == "worker"


def test_an_error_in_a_savepoint_leaves_the_transaction_usable(
    texts: Connection, texts_url: str
) -> None:
    """Without a worker the error is caught, and with one the next call answers."""
    with texts.transaction():
        refused(texts, WorkerError, ENCODE, ("red apple",))
        with working(texts_url):
            assert source(texts, "red apple") == "worker"


def test_it_works_in_functions_and_views(texts: Connection, worker: Worker) -> None:
    """Within a view, and functions of SQL and plpgsql."""
    nearest = "select id from pgembed_data.papers order by embedding <=> (select pgembed.encode('papers', {}))::halfvec limit 1"
    with texts.transaction(force_rollback=True):
        texts.execute(f"create view nearest as {nearest.format(repr('red apple'))}")
        texts.execute(
            "create function of_sql(text) returns bigint language sql stable"
            f" as $$ {nearest.format('$1')} $$"
        )
        texts.execute(
            "create function of_plpgsql(text) returns bigint language plpgsql"
            f" as $$ begin return ({nearest.format('$1')}); end $$"
        )
        (expected,) = column(texts, nearest.format("'red apple'"))
        assert scalar(texts, "select id from nearest") == expected
        assert scalar(texts, "select of_sql('red apple')") == expected
        assert scalar(texts, "select of_plpgsql('red apple')") == expected
    assert worker.asked == ["red apple"]


def test_many_rows_ask_once(texts: Connection, worker: Worker) -> None:
    """In a where clause, and in an order by, one request serves all rows."""
    texts.execute(
        "select id from pgembed_data.papers"
        " where embedding <=> pgembed.encode('papers', 'fast car')::halfvec < 0.5"
        " order by embedding <=> pgembed.encode('papers', 'fast car')::halfvec"
    )
    assert worker.asked == ["fast car"]


def test_without_a_worker_the_error_is_quick(texts: Connection) -> None:
    """It names the encoder and the command, before anything is connected."""
    with connect(url_of(texts)) as warm:
        refused(warm, WorkerError, ENCODE, ("warm",))
        started = time.monotonic()
        error = refused(warm, WorkerError, ENCODE, ("red apple",))
        assert time.monotonic() - started < 0.1
    assert "'tiny'" in str(error)
    assert "pgembed worker" in str(error.hint)
    assert waiting(texts) == 0


def test_a_worker_that_hangs_is_given_up(texts: Connection, texts_url: str) -> None:
    """After pgembed.timeout_ms, and the request is gone."""
    texts.execute("set pgembed.timeout_ms = 200")
    with hanging(texts_url):
        elapsed = seconds(lambda: refused(texts, WorkerError, ENCODE, ("red apple",)))
    assert 0.2 <= elapsed < 0.8
    assert waiting(texts) == 0


@pytest.mark.parametrize("setting", ["0", "60001", "-1", "soon", "1e3", "999999999999"])
def test_the_timeout_is_checked(texts: Connection, setting: str) -> None:
    """A value that is no number of milliseconds is named."""
    texts.execute("select set_config('pgembed.timeout_ms', %s, false)", (setting,))
    assert repr(setting) in str(refused(texts, InputError, ENCODE, ("red apple",)))


def test_statement_timeout_is_honoured(texts: Connection, texts_url: str) -> None:
    """The statement ends when its time is over, and takes its request along."""
    texts.execute("set statement_timeout = 200")
    with hanging(texts_url):
        started = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled):
            texts.execute(ENCODE, ("red apple",))
    assert time.monotonic() - started < 0.7
    assert waiting(texts) == 0


def test_a_cancel_is_honoured(texts: Connection, texts_url: str) -> None:
    """Ctrl-C in psql ends the wait, the request goes, and the session goes on."""
    with hanging(texts_url):
        timer = threading.Timer(0.2, texts.cancel_safe)
        timer.start()
        started = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled):
            texts.execute(ENCODE, ("red apple",))
        assert time.monotonic() - started < 0.7
        timer.join()
    assert waiting(texts) == 0
    with working(texts_url):
        assert source(texts, "red apple") == "worker"


def test_another_worker_answers_for_a_killed_one(texts: Connection, texts_url: str) -> None:
    """A claim dies with its session; whoever waits hands the request on."""
    dead = connect(texts_url)
    dead.execute("select pgembed.serve_encoder('tiny')")
    claimer = scalar(dead, "select pgembed.register_claimer()")
    found: list[str] = []
    waiter = threading.Thread(target=lambda: found.append(source(texts, "red apple")))
    waiter.start()
    while not take(dead, claimer):
        time.sleep(0.01)
    with working(texts_url) as worker:
        time.sleep(0.1)
        assert worker.asked == []
        with connect(texts_url) as killer:
            killer.execute("select pg_terminate_backend(%s)", (dead.info.backend_pid,))
        waiter.join(2)
        assert found == ["worker"]
        assert worker.asked == ["red apple"]
    dead.close()


def test_the_last_worker_dies_while_a_session_waits(texts: Connection, texts_url: str) -> None:
    """The session is told at once, not at its timeout."""
    dying = connect(texts_url)
    dying.execute("select pgembed.serve_encoder('tiny')")
    threading.Timer(0.2, dying.close).start()
    elapsed = seconds(lambda: refused(texts, WorkerError, ENCODE, ("red apple",)))
    assert 0.1 < elapsed < 1
    assert waiting(texts) == 0


def terminate_loopbacks(url: str) -> int:
    """End the second connections of all sessions of a database."""
    with connect(url) as connection:
        ended = column(
            connection,
            "select pg_terminate_backend(pid, 2000) from pg_stat_activity"
            " where application_name = 'pgembed-loopback' and datname = current_database()",
        )
    return len(ended)


def test_a_lost_loopback_is_opened_again(texts: Connection, texts_url: str, worker: Worker) -> None:
    """Killed between two calls, nobody notices; there is one a session."""
    assert source(texts, "one") == "worker"
    assert terminate_loopbacks(texts_url) == 1
    assert source(texts, "two") == "worker"
    assert terminate_loopbacks(texts_url) == 1


def test_a_loopback_that_is_lost_while_waiting_is_opened_again(
    texts: Connection, texts_url: str
) -> None:
    """The request is in the table, so the answer is fetched by the next connection."""
    found: list[str] = []
    with hanging(texts_url):
        waiter = threading.Thread(target=lambda: found.append(source(texts, "red apple")))
        waiter.start()
        while not terminate_loopbacks(texts_url):
            time.sleep(0.02)
        with working(texts_url):
            waiter.join(3)
    assert found == ["worker"]


def test_an_idle_loopback_is_closed_and_opened_again(
    texts: Connection, texts_url: str, worker: Worker
) -> None:
    """The role's idle_session_timeout frees connections of sessions that ask seldom."""
    role = scalar(texts, "select pgembed.loopback_role()")
    alter = "alter role {} in database {} set idle_session_timeout = {}"
    names = (sql.Identifier(role), sql.Identifier(texts.info.dbname))
    texts.execute(sql.SQL(alter).format(*names, sql.Literal("50ms")))
    try:
        assert source(texts, "one") == "worker"
        time.sleep(0.3)
        assert terminate_loopbacks(texts_url) == 0
        assert source(texts, "two") == "worker"
    finally:
        texts.execute(sql.SQL(alter).format(*names, sql.Literal("60s")))


@pytest.mark.parametrize(
    "text",
    [
        "it's; drop table papers; --",
        "back\\slash \\' \\\\",
        '"double" $$dollar$$ %s %% {} :name $1',
        "\u00e4\u00f6\u00fc \u4e2d\u6587 \U0001f600 \u202e",
        "tab\tand\nline\r\n",
        "word " * 20_000,
    ],
    ids=["quotes", "backslashes", "placeholders", "unicode", "lines", "100 kB"],
)
def test_hostile_texts_are_texts(texts: Connection, worker: Worker, text: str) -> None:
    """They reach the worker as they are, and harm nothing."""
    expected = open_registered(texts, "tiny").encode_query([text])[0]
    found = scalar(texts, "select pgembed.encode('papers', %s)::real[]", (text,))
    assert np.allclose(found, expected, atol=1e-6)
    assert worker.asked == [text]
    assert scalar(texts, "select count(*) from papers") == 60


def test_the_error_of_a_worker_arrives(texts: Connection, texts_url: str) -> None:
    """With its SQLSTATE and hint; a code that is none becomes PGE06."""
    answers = {
        "one": Answer(None, "no expert here", "PGE01", "there is base"),
        "two": Answer(None, "out of memory", None, None),
        "three": Answer(None, "broken", "nonsense", ""),
        "four": Answer(),
    }
    with working(texts_url, answer=lambda _, request: answers[request[4]]):
        error = refused(texts, NotFoundError, ENCODE, ("one",))
        assert "no expert here" in str(error)
        assert error.hint == "there is base"
        for text, said in {"two": "out of memory", "three": "broken", "four": "no vector"}.items():
            error = refused(texts, WorkerError, ENCODE, (text,))
            assert said in str(error)
            assert error.hint is None
    assert waiting(texts) == 0
    assert column(texts, "select cache_key from pgembed.encode_cache") == []


def test_the_encoder_refuses_through_the_worker(texts: Connection, worker: Worker) -> None:
    """An expert that is unknown to the worker's routing is named as Python names it."""
    row = texts.execute(
        "select token from pgembed.submit_request('tiny', 'nope', 'text')"
    ).fetchone()
    assert row is not None
    while (fetched := fetch(texts, row[0]))[0] == "waiting":
        time.sleep(0.01)
    assert fetched[0] == "failed"
    assert '"nope"' in fetched[2]
    assert fetched[3] == "PGE01"
    assert fetch(texts, row[0])[0] == "gone"


def fetch(connection: Connection, token: object) -> tuple[Any, ...]:
    """State, answer, error, code and hint of a request."""
    row = connection.execute("select * from pgembed.fetch_request(%s)", (token,)).fetchone()
    assert row is not None
    return row


def as_role(url: str, role: str, password: str) -> str:
    """The same database, another user."""
    return make_conninfo(**{**conninfo_to_dict(url), "user": role, "password": password})


def test_the_loopback_role_has_two_functions_and_nothing_else(
    texts: Connection, texts_url: str
) -> None:
    """Whoever holds its password reads no table, and calls no other function with owner's rights."""
    conninfo = conninfo_to_dict(scalar(texts, "select conninfo from pgembed.loopback"))
    relations = column(
        texts,
        "select format('%I.%I', n.nspname, r.relname) from pg_class as r join pg_namespace as n on n.oid = r.relnamespace"
        " where r.relkind = 'r' and n.nspname in ('pgembed', 'pgembed_data', 'public')",
    )
    assert "pgembed.loopback" in relations
    with connect(as_role(texts_url, conninfo["user"], conninfo["password"])) as loopback:
        statements = [f"table {name}" for name in relations]
        statements += [
            "select pgembed.ask_worker('tiny', 'soft', 'text')",
            "select pgembed.check_loopback()",
            "select pgembed.encode('papers', 'text')",
            "select pgembed.take_requests(1, '{tiny}')",
            "create table pgembed.mine (id int)",
            "create role pgembed_test_mine",
        ]
        for statement in statements:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                loopback.execute(statement)
        told = loopback.execute("select * from pgembed.submit_request('tiny', 'soft', 'x')")
        assert "no worker" in str(told.fetchone())


def test_nobody_else_may_run_dblink(texts: Connection, worker: Worker) -> None:
    """Over the open connection of his session a user would see what others hand in."""
    texts.execute(ENCODE, ("red apple",))
    texts.execute("create role pgembed_test_curious")
    try:
        for right in ("no usage", "usage"):
            if right == "usage":
                texts.execute("grant usage on schema pgembed_dblink to pgembed_test_curious")
            texts.execute("set role pgembed_test_curious")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                texts.execute("select pgembed_dblink.dblink('pgembed_loopback', 'select 1')")
            texts.execute("reset role")
    finally:
        texts.execute("reset role")
        texts.execute("drop owned by pgembed_test_curious")
        texts.execute("drop role pgembed_test_curious")


def test_the_open_connection_has_few_rights(texts: Connection, worker: Worker) -> None:
    """Where dblink is open to all, it is the role's rights that count."""
    texts.execute(ENCODE, ("red apple",))
    for statement in (
        "select conninfo from pgembed.loopback",
        "select query from pgembed.encode_request",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            texts.execute(
                "select * from pgembed_dblink.dblink('pgembed_loopback', %s) as t (text text)",
                (statement,),
            )


def test_nobody_chooses_the_key_of_the_cache(texts: Connection, worker: Worker) -> None:
    """The key is made of the text by the database, so one text cannot stand in for another."""
    keys = texts.execute(
        "select s.cache_key, pgembed.query_key('tiny', 'soft', 'red apple')"
        " from pgembed.submit_request('tiny', 'soft', 'red apple') as s"
    ).fetchone()
    assert keys is not None
    assert keys[0] == keys[1]
    others = column(
        texts,
        "select pgembed.query_key(e, m, q) from (values ('tiny', 'soft', 'red'), ('tiny', 'sof', 'tred'),"
        " ('tiny', 'hard', 'red'), ('tiny', 'soft', 'red ')) as v (e, m, q)",
    )
    assert len(set(others)) == 4

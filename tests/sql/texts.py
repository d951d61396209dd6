"""Workers for the tests of query texts: small, and with answers of the real encoder."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from pgembed.database import ERRORS, Connection, connect
from pgembed.errors import PgembedError
from pgembed.registry import open_registered
from pgembed.routing import current_router
from tests.sql.support import as_literal, scalar

TAKE = "select token, encoder, routing_version, mode, query from pgembed.take_requests(%s, %s)"
ANSWER = "select pgembed.answer_requests(%s, %s, %s, %s::text[], %s::text[], %s::text[])"


class Answer(NamedTuple):
    """A vector as text, or why there is none."""

    vector: str | None = None
    error: str | None = None
    code: str | None = None
    hint: str | None = None


Request = tuple[Any, ...]
CODES = {kind: code for code, kind in ERRORS.items() if code.startswith("PGE")}


class Worker:
    """Answers requests in a thread until it is stopped; ``asked`` are the texts that it took."""

    def __init__(
        self, url: str, answer: Callable[[Connection, Request], Answer] | None = None
    ) -> None:
        self.connection = connect(url)
        self.asked: list[str] = []
        self._answer = answer or encoded
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to serve; returns when requests are taken."""
        self.claimer = scalar(self.connection, "select pgembed.register_claimer()")
        self.connection.execute("listen pgembed_request")
        self.connection.execute("select pgembed.serve_encoder('tiny')")
        self._thread.start()

    def stop(self) -> None:
        """End, its session and locks included."""
        self._stopped.set()
        self._thread.join()
        leave(self.connection)

    def _run(self) -> None:
        while not self._stopped.is_set():
            for _ in self.connection.notifies(timeout=0.05, stop_after=1):
                pass
            while requests := take(self.connection, self.claimer):
                self.asked += [request[4] for request in requests]
                answers = [self._answer(self.connection, request) for request in requests]
                answer(self.connection, self.claimer, requests, answers)


def take(connection: Connection, claimer: int) -> list[Request]:
    """What waits for encoder ``tiny``."""
    return connection.execute(TAKE, (claimer, ["tiny"])).fetchall()


def answer(
    connection: Connection, claimer: int, requests: Sequence[Request], answers: Sequence[Answer]
) -> int:
    """Answer requests; how many of them were still waited for."""
    tokens = [request[0] for request in requests]
    vectors, *reasons = (list(each) for each in zip(*answers, strict=True))
    # As one text, so that no type is named: pgvector may be in a schema that is not on the path.
    listed = "{" + ",".join(f'"{each}"' if each else "null" for each in vectors) + "}"
    return int(scalar(connection, ANSWER, (claimer, tokens, listed, *reasons)))


def encoded(connection: Connection, request: Request) -> Answer:
    """The answer that a worker owes: the encoder's vector, routed."""
    _, encoder, version, mode, query = request
    try:
        z = open_registered(connection, encoder).encode_query([query])[0]
        vector, _ = current_router(connection, encoder, version).query_vector(z, mode)
    except PgembedError as error:
        message = str(error).partition("\nHint: ")[0]
        return Answer(None, message, CODES.get(type(error)), error.hint)
    return Answer(as_literal(vector))


@contextmanager
def working(url: str, **options: Any) -> Iterator[Worker]:
    """A worker while the block lasts."""
    worker = Worker(url, **options)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()


@contextmanager
def hanging(url: str) -> Iterator[Connection]:
    """A worker that lives and answers nothing."""
    with connect(url) as connection:
        connection.execute("select pgembed.serve_encoder('tiny')")
        yield connection
        leave(connection)


def leave(connection: Connection) -> None:
    """End a session; its locks are free when this returns, not some milliseconds later."""
    connection.execute("select pg_advisory_unlock_all()")
    connection.close()

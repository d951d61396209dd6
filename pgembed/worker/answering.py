"""Answer query texts: take what waits, encode it as one batch, route each, write vectors back."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pgvector import Vector as PgVector
from pgvector.psycopg import register_vector

from pgembed.database import ERRORS, Connection, rows_of, translated
from pgembed.encoders import Encoder
from pgembed.encoders.bank import States
from pgembed.errors import PgembedError
from pgembed.model import Vector
from pgembed.registry import open_registered
from pgembed.router import Router
from pgembed.routing import current_router
from pgembed.worker.loops import Loop

log = logging.getLogger("pgembed.worker")

CODES = {kind: code for code, kind in ERRORS.items() if code.startswith("PGE")}

BATCH = 32
"""Query texts that are encoded together."""

LOOK_AROUND = 2.0
"""Seconds between looks for new encoders, and for requests whose notification got lost."""


@dataclass(frozen=True, slots=True)
class Request:
    """A query text that an SQL session waits for."""

    token: str
    encoder: str
    routing_version: str
    mode: str
    query: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Its routed vector, or why there is none."""

    vector: Vector | None = None
    error: PgembedError | None = None


class AnsweringLoop(Loop):
    """Listens for query texts of the encoders that this worker can open."""

    def work(self, connection: Connection) -> None:
        """Answer until told to stop; where the worker runs once, what waits now."""
        register_vector(connection)
        connection.execute("listen pgembed_request")
        ((claimer,),) = rows_of(connection, "select pgembed.register_claimer()")
        encoders: dict[str, Encoder] = {}
        while True:
            self.beat()
            self._open_encoders(connection, encoders)
            self._drain(connection, claimer, encoders)
            if self.stop.is_set() or self.options.once:
                return
            for _ in range(int(LOOK_AROUND / 0.25)):
                # To the end first: the generator holds the connection's lock meanwhile.
                if list(connection.notifies(timeout=0.25, stop_after=1)):
                    self._drain(connection, claimer, encoders)
                if self.stop.is_set():
                    return

    def _open_encoders(self, connection: Connection, encoders: dict[str, Encoder]) -> None:
        """Open encoders of new collections; those that this machine lacks are left to others."""
        found = rows_of(
            connection,
            "select distinct e.name, e.fingerprint from pgembed.collection as c"
            " join pgembed.encoder as e on e.name = c.encoder"
            " where %(names)s::text[] is null or c.name = any (%(names)s)",
            {"names": self.options.collections and list(self.options.collections)},
        )
        for name, fingerprint in found:
            if name in encoders and encoders[name].spec.fingerprint == fingerprint:
                continue
            served = encoders.pop(name, None) is not None
            try:
                encoders[name] = open_registered(connection, name, fingerprint, threads=1)
            except PgembedError as error:
                reason = f"encoder {name}: {error}"
                if self.counters.last_error != reason:
                    log.error(reason, extra={"loop": self.name})
                self.counters.failed(reason)
                continue
            if not served:
                connection.execute("select pgembed.serve_encoder(%s)", (name,))
            log.info("answering", extra={"encoder": name})

    def _drain(self, connection: Connection, claimer: int, encoders: dict[str, Encoder]) -> None:
        taken = BATCH
        # Less than a batch was all there was: what came since has its own notification.
        while taken == BATCH and not self.stop.is_set():
            requests = self._take(connection, claimer, list(encoders))
            taken = len(requests)
            if not requests:
                return
            with self._first():
                answers = answer_all(connection, encoders, requests)
            self._write(connection, claimer, requests, answers)
            self.counters.answered(len(requests))
            self.beat()

    @contextmanager
    def _first(self) -> Iterator[None]:
        """Let documents wait meanwhile."""
        self.counters.answering.set()
        try:
            yield
        finally:
            self.counters.answering.clear()

    def _take(self, connection: Connection, claimer: int, encoders: list[str]) -> list[Request]:
        rows = rows_of(
            connection,
            "select token, encoder, routing_version, mode, query"
            " from pgembed.take_requests(%s, %s, %s)",
            (claimer, encoders, BATCH),
        )
        return [Request(*row) for row in rows]

    def _write(
        self,
        connection: Connection,
        claimer: int,
        requests: Sequence[Request],
        answers: Sequence[Answer],
    ) -> None:
        errors = [answer.error for answer in answers]
        vectors = [None if each.vector is None else PgVector(each.vector) for each in answers]
        connection.execute(
            "select pgembed.answer_requests(%s, %s::uuid[], %b,"
            " %s::text[], %s::text[], %s::text[])",
            (
                claimer,
                [request.token for request in requests],
                vectors,
                [error and _message(error) for error in errors],
                [error and CODES.get(type(error), "PGE06") for error in errors],
                [error and error.hint for error in errors],
            ),
            binary=True,
        )


def answer_all(
    connection: Connection, encoders: dict[str, Encoder], requests: Sequence[Request]
) -> list[Answer]:
    """Encode the texts of each encoder as one batch; a text that cannot be stops no other."""
    answers: dict[str, Answer] = {}
    for name, version in {(request.encoder, request.routing_version) for request in requests}:
        mine = [r for r in requests if (r.encoder, r.routing_version) == (name, version)]
        try:
            with translated():
                router = current_router(connection, name, version)
            texts, modes = [r.query for r in mine], [r.mode for r in mine]
            encoded = router.encode(texts, encoders[name], modes)
        except PgembedError as error:
            if len(mine) == 1:
                answers[mine[0].token] = Answer(error=error)
                continue
            for request in mine:
                (answers[request.token],) = answer_all(connection, encoders, [request])
            continue
        for row, request in enumerate(mine):
            one = encoded.take([row]) if isinstance(encoded, States) else encoded[row]
            answers[request.token] = _routed(router, request.mode, one)
    return [answers[request.token] for request in requests]


def _routed(router: Router, mode: str, encoded: Vector | States) -> Answer:
    try:
        return Answer(router.query_vector(encoded, mode, explained=False)[0])
    except PgembedError as error:
        return Answer(error=error)


def _message(error: PgembedError) -> str:
    """The message without the hint, which has a field of its own."""
    return str(error).removesuffix(f"\nHint: {error.hint}")

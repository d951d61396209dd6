"""One worker process: its loops, and how it ends."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pgembed.database import connect, translated
from pgembed.errors import NotFoundError
from pgembed.worker.answering import AnsweringLoop
from pgembed.worker.counters import Counters
from pgembed.worker.heartbeat import HeartbeatLoop
from pgembed.worker.keeping import KeepingLoop
from pgembed.worker.loops import Loop
from pgembed.worker.options import WorkerOptions

log = logging.getLogger("pgembed.worker")


def run(
    options: WorkerOptions,
    *,
    counters: Counters | None = None,
    stop: threading.Event | None = None,
) -> Counters:
    """Work until SIGTERM or SIGINT; with ``once``, until nothing waits.

    Whatever is under way then is finished within the grace or given back. A second signal ends the
    process at once, which loses nothing either.

    Args:
        options: how to work.
        counters: where to count, for whoever watches.
        stop: ends the worker like a signal does, when it is set.

    Raises:
        NotFoundError, SchemaError: a named collection, or pgembed itself, is not in the database.
    """
    counters = counters or Counters()
    stop = stop or threading.Event()
    _check(options)
    ended = threading.Event()
    heartbeat = HeartbeatLoop("heartbeat", options, counters, ended)
    loops: list[Loop] = []
    if options.queries:
        loops.append(AnsweringLoop("queries", options, counters, stop))
    for number in range(options.concurrency):
        loops.append(KeepingLoop(f"documents-{number + 1}", options, counters, stop))
    with _signals(stop):
        log.info("started", extra={"loops": len(loops)})
        heartbeat.thread.start()
        for loop in loops:
            loop.thread.start()
        for loop in loops:
            _join(loop, stop, options.grace)
        ended.set()
        _join(heartbeat, ended, options.grace)
    log.info("stopped", extra={"documents": counters.documents, "requests": counters.requests})
    return counters


def _join(loop: Loop, stop: threading.Event, grace: float) -> None:
    """Wait for a loop; once the grace is over, end what it waits for in the database."""
    deadline = None
    while loop.thread.is_alive():
        # In pieces, because a thread that waits for another gets no signals meanwhile.
        loop.thread.join(0.2)
        if stop.is_set():
            deadline = deadline or time.monotonic() + grace
            if time.monotonic() > deadline:
                loop.cancel()
                deadline += 1


def _check(options: WorkerOptions) -> None:
    """Say at once what would fail for ever."""
    with connect(options.url) as connection, translated():
        known = connection.execute("select name from pgembed.collection order by name").fetchall()
    names = [name for (name,) in known]
    for name in options.collections or ():
        if name not in names:
            raise NotFoundError(
                f"there is no collection {name!r}", hint=f"Collections are {', '.join(names)}."
            )


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """The first signal asks, the second is obeyed at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, _: object) -> None:
        log.info("stopping", extra={"signal": signal.Signals(number).name})
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    before = {each: signal.signal(each, ask) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)

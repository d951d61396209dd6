"""The worker's log: a line an event, for people or as json."""

from __future__ import annotations

import logging
from typing import TextIO

from pythonjsonlogger.json import JsonFormatter

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class _TextFormatter(logging.Formatter):
    """Time, level, message, and the event's fields as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        return " ".join(
            [super().format(record), *(f"{name}={value}" for name, value in fields.items())]
        )


def set_up(kind: str, stream: TextIO) -> None:
    """Send the log of pgembed to a stream, as ``text`` or ``json``."""
    handler = logging.StreamHandler(stream)
    if kind == "json":
        handler.setFormatter(JsonFormatter("%(asctime)s %(levelname)s %(message)s"))
    else:
        handler.setFormatter(_TextFormatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("pgembed")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False

"""What a worker did so far, and whether its loops are alive: for status, health and metrics."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

WINDOW = 60.0
"""Seconds that throughput looks back."""

SILENCE = 30.0
"""Seconds after which a loop that says nothing counts as stuck."""


@dataclass(slots=True)
class Counters:
    """Counts of one process; every method is safe to call from any thread."""

    requests: int = 0
    documents: int = 0
    chunks: int = 0
    failures: int = 0
    last_error: str | None = None
    last_error_at: datetime | None = None
    started: float = field(default_factory=time.monotonic)
    answering: threading.Event = field(default_factory=threading.Event)
    """Set while query texts are encoded, so that documents let them pass."""
    _beats: dict[str, float] = field(default_factory=dict)
    _recent: deque[tuple[float, int]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def beat(self, loop: str) -> None:
        """A loop is alive."""
        with self._lock:
            self._beats[loop] = time.monotonic()

    def ended(self, loop: str) -> None:
        """A loop ended in order, and is missed by nobody."""
        with self._lock:
            self._beats.pop(loop, None)

    def answered(self, requests: int) -> None:
        """Query texts were answered."""
        with self._lock:
            self.requests += requests

    def wrote(self, documents: int, chunks: int, failures: int) -> None:
        """A batch was written."""
        with self._lock:
            self.documents += documents
            self.chunks += chunks
            self.failures += failures
            self._recent.append((time.monotonic(), documents))

    def failed(self, reason: str) -> None:
        """Something went wrong that the worker goes on after."""
        with self._lock:
            self.last_error, self.last_error_at = reason, datetime.now(UTC)

    def throughput(self) -> float:
        """Source rows a second over the last minute."""
        now = time.monotonic()
        with self._lock:
            while self._recent and self._recent[0][0] < now - WINDOW:
                self._recent.popleft()
            total = sum(documents for _, documents in self._recent)
        return total / max(1.0, min(WINDOW, now - self.started))

    def silences(self) -> dict[str, float]:
        """Seconds since each loop was last heard of."""
        now = time.monotonic()
        with self._lock:
            return {loop: now - beat for loop, beat in self._beats.items()}

    def healthy(self) -> bool:
        """Whether every loop was heard of lately."""
        return all(silence < SILENCE for silence in self.silences().values())

"""What a worker is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass

from pgembed.errors import InputError


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker works.

    Raises:
        InputError: a number is out of its range.
    """

    url: str = ""
    """Connection string of libpq; the session must reach the primary."""
    collections: tuple[str, ...] | None = None
    """Which to serve; None for all, those to come included."""
    concurrency: int = 1
    """Sessions that embed documents, each on one processor."""
    queries: bool = True
    """Whether to answer query texts."""
    batch_rows: int = 64
    """Source rows that are claimed, encoded and written together: written in one transaction, so
    few keep it short where an index has to take the vectors in."""
    rate: float | None = None
    """Most source rows a second and session; None for as many as it can."""
    poll: float = 0.2
    """Seconds between looks at the queue when it was empty."""
    lease: float = 60.0
    """Seconds after which others may take the rows of a worker that hangs."""
    grace: float = 10.0
    """Seconds that a batch may still take once the worker is told to stop."""
    cache_ttl: float = 86_400.0
    """Seconds that the vector of a query text is kept for."""
    cache_size: int = 10_000
    """Query texts whose vectors are kept."""
    once: bool = False
    """End when nothing waits any more."""

    def __post_init__(self) -> None:
        lowest = {"concurrency": 0, "batch_rows": 1, "poll": 0.01, "lease": 1, "grace": 0}
        for name, least in lowest.items():
            if not getattr(self, name) >= least:
                raise InputError(f"{name} is {getattr(self, name)}; it is {least} or more")
        if self.rate is not None and not self.rate > 0:
            raise InputError(f"rate is {self.rate}; it is rows a second, above 0")
        if not (self.concurrency or self.queries):
            raise InputError("a worker without sessions and without queries has nothing to do")

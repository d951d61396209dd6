"""The worker: answers the query texts of SQL sessions, and keeps collections in step."""

from __future__ import annotations

from pgembed.worker.options import WorkerOptions
from pgembed.worker.process import run

__all__ = ["WorkerOptions", "run"]

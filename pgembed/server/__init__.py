"""PostgreSQL with pgvector from a wheel: started, shared and stopped without an installation."""

from __future__ import annotations

from pgembed.server.binaries import find_binaries
from pgembed.server.home import default_home
from pgembed.server.launcher import EmbeddedServer, ServerStatus, status, stop

__all__ = ["EmbeddedServer", "ServerStatus", "default_home", "find_binaries", "status", "stop"]

"""Places where a test stops a process for good, to see that nothing is lost there.

``PGEMBED_FAILPOINT=encoded:kill`` kills the process when it has encoded a batch; ``stop`` instead
of ``kill`` freezes it until SIGCONT. ``encoded:kill:0.1`` does so one time in ten. The points are
``claimed``, ``encoded``, ``copying`` (within COPY), ``written`` (before the commit), ``committed``.
"""

from __future__ import annotations

import os
import random
import signal
import threading

_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP} if os.name == "posix" else {}

_point, _, _rest = os.environ.get("PGEMBED_FAILPOINT", "").partition(":")
_action, _, _chance = _rest.partition(":")


def reach(name: str) -> None:
    """Stop the process here when the environment says so."""
    if name == _point and random.random() < float(_chance or 1):  # noqa: S311
        # To this very thread: one that is sent to the process lets it run on for a moment.
        signal.pthread_kill(threading.get_ident(), _SIGNALS[_action])

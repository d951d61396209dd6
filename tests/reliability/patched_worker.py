"""``pgembed`` whose encoder takes its time, or dies of a text: for the tests of this folder.

``PGEMBED_TEST_SLOW`` is seconds that each call of the encoder takes; the word ``poison`` in a text
kills the process where ``PGEMBED_TEST_POISON`` is set; ``PGEMBED_TEST_REST`` is seconds that a
collection rests after an error.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence

from pgembed.cli import main
from pgembed.encoders import Encoder
from pgembed.model import Vectors
from pgembed.worker import keeping

_encode = Encoder.encode_document


def encode_document(
    self: Encoder, texts: Sequence[str], *, on_progress: Callable[[int], None] | None = None
) -> Vectors:
    """Encode as ever, but slowly, and not everything."""
    if "PGEMBED_TEST_POISON" in os.environ and any("poison" in text for text in texts):
        os.kill(os.getpid(), signal.SIGKILL)
    end = time.monotonic() + float(os.environ.get("PGEMBED_TEST_SLOW", "0"))
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.05))
        if on_progress:
            on_progress(0)
    return _encode(self, texts, on_progress=on_progress)


if __name__ == "__main__":
    Encoder.encode_document = encode_document  # type: ignore[method-assign]
    keeping.OUT_OF_ORDER = float(os.environ.get("PGEMBED_TEST_REST", keeping.OUT_OF_ORDER))
    main()

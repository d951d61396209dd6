"""A model that is none, behind Ollama's API: the same vector for the same text after a fixed time.

A call of n texts sleeps n times the delay and answers with vectors that were written as JSON
before, so that the server itself costs next to nothing. Two calls at once sleep side by side.
"""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

SIZE = 384
KNOWN = 1_009
"""Different vectors."""


@dataclass(slots=True)
class Model:
    """A running server; counts the texts that it was asked for."""

    url: str
    delay: float
    """Seconds a text."""
    texts: int = 0
    at_work: int = 0
    """Calls that are not answered yet."""


@contextmanager
def model(delay: float) -> Iterator[Model]:
    """Serve while the block lasts, in threads of this process."""
    vectors = np.random.default_rng(0).standard_normal((KNOWN, SIZE)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    written = [json.dumps([round(float(x), 7) for x in vector]) for vector in vectors]
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answers = {"/api/show": self.show, "/api/embed": self.embed}
            body = answers[self.path](asked).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def show(self, _: object) -> str:
            return json.dumps({"details": {}, "model_info": {}})

        def embed(self, asked: dict[str, list[str]]) -> str:
            texts = asked["input"]
            with lock:
                served.texts += len(texts)
                served.at_work += 1
            time.sleep(served.delay * len(texts))
            with lock:
                served.at_work -= 1
            found = ",".join(written[zlib.crc32(text.encode()) % KNOWN] for text in texts)
            return f'{{"model":"fake","embeddings":[{found}],"prompt_eval_count":{len(texts)}}}'

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def handle(self) -> None:
            # Whoever was killed does not wait for its answer.
            try:
                super().handle()
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Model(f"http://127.0.0.1:{server.server_address[1]}", delay)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()

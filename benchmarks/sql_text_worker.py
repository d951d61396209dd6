"""Our worker with a model that is none; run as a process of its own by the benchmarks of it.

``python -m benchmarks.sql_text_worker echo`` answers query texts at once with a constant vector.
``... model URL [batch]`` embeds documents once by the HTTP server of sql_text_model, as pgai does.
The database comes in PGEMBED_URL. Everything but the encoder is the product's own worker.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from http.client import HTTPConnection
from urllib.parse import urlsplit

import numpy as np
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgembed import registry
from pgembed.database import Connection, database_url
from pgembed.model import Chunk, EncoderSpec, Vectors
from pgembed.schema import migrate
from pgembed.worker import WorkerOptions, run

SIZE = 384
FINGERPRINT = "ab" * 32


class Stub:
    """Has what a worker calls of an encoder; a text is one chunk."""

    def __init__(self, vectors: Callable[[Sequence[str]], Vectors]) -> None:
        self._vectors = vectors
        self.spec = EncoderSpec("stub", FINGERPRINT, SIZE, 256, "nowhere")

    def encode_query(self, texts: Sequence[str]) -> Vectors:
        """One vector a text."""
        return self._vectors(texts)

    def encode_document(
        self, texts: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> Vectors:
        """One vector a text."""
        vectors = self._vectors(texts)
        if on_progress is not None:
            on_progress(len(texts))
        return vectors

    def chunk(self, text: str, **_: object) -> list[Chunk]:
        """The text itself."""
        return [Chunk(0, 0, len(text), text)] if text else []


CONSTANT = np.full(SIZE, SIZE**-0.5, dtype=np.float32)


def echo(texts: Sequence[str]) -> Vectors:
    """The same vector for every text."""
    return np.broadcast_to(CONSTANT, (len(texts), SIZE))


def asking(url: str) -> Callable[[Sequence[str]], Vectors]:
    """Vectors by Ollama's API, over a new connection a batch, as pgai's client has it."""
    address = urlsplit(url).netloc

    def vectors(texts: Sequence[str]) -> Vectors:
        connection = HTTPConnection(address)
        body = json.dumps({"model": "fake", "input": list(texts)})
        connection.request("POST", "/api/embed", body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return np.asarray(answer["embeddings"], dtype=np.float32)

    return vectors


def register_stub(connection: Connection) -> None:
    """Make the model known that is none."""
    connection.execute(
        "select pgembed.register_encoder('stub', %s, %s, 256, 'mean', 'stub')", (FINGERPRINT, SIZE)
    )


def fresh_database(url: str, name: str) -> str:
    """URL of a new database with schema pgembed."""
    made = empty_database(url, name)
    migrate(made)
    return made


def empty_database(url: str, name: str, template: str = "template1") -> str:
    """URL of a new database, a copy of its template."""
    with psycopg.connect(url, autocommit=True) as admin:
        names = {"name": sql.Identifier(name), "template": sql.Identifier(template)}
        admin.execute(sql.SQL("drop database if exists {name} with (force)").format(**names))
        admin.execute(sql.SQL("create database {name} template {template}").format(**names))
    return make_conninfo(**{**conninfo_to_dict(url), "dbname": name})


def main(kind: str, model: str = "", batch: str = "64") -> None:
    url = database_url()
    if kind == "echo":
        registry._opened[FINGERPRINT] = Stub(echo)
        run(WorkerOptions(url, concurrency=0))
    else:
        registry._opened[FINGERPRINT] = Stub(asking(model))
        run(WorkerOptions(url, queries=False, batch_rows=int(batch), once=True))


if __name__ == "__main__":
    main(*sys.argv[1:])

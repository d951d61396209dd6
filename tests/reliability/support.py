"""A collection to torture, texts for it, and the verdict: is every row what its writer was told?"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psycopg

from pgembed.batches import content_hash
from pgembed.checking import audit_sync
from pgembed.collections import create_collection, search_target
from pgembed.database import Connection, connect
from pgembed.registry import open_registered, register_encoder
from pgembed.schema import migrate
from pgembed.server import EmbeddedServer
from tests.encoders.tiny import make_tiny_encoder

WORDS = [
    "apple",
    "pear",
    "ocean",
    "mountain",
    "train",
    "car",
    "comet",
    "garden",
    "river",
    "stone",
    "cloud",
    "lamp",
]

MAX_TOKENS = 64


def make_notes(connection: Connection, rows: int = 0, **options: Any) -> dict[int, str]:
    """Table ``notes`` with short texts, and its collection, which nobody has embedded yet."""
    bodies = {number: f"note {number} on {WORDS[number % 12]}" for number in range(1, rows + 1)}
    connection.execute("create table notes (id bigint primary key, body text)")
    put(connection, bodies)
    options = {"max_tokens": MAX_TOKENS, "encoder": "tiny", "content": ["body"], **options}
    create_collection(connection, "notes", source="notes", **options)
    return bodies


def put(connection: Connection, bodies: Mapping[int, str]) -> None:
    """Insert or update notes."""
    connection.execute(
        "insert into notes select * from unnest(%s::bigint[], %s::text[])"
        " on conflict (id) do update set body = excluded.body",
        (list(bodies), list(bodies.values())),
    )


def some_text(chance: random.Random) -> str:
    """A text of one chunk, sometimes of many, sometimes empty."""
    words = chance.choices((0, 5, 30, 400), weights=(1, 12, 6, 2))[0]
    return " ".join(f"{chance.choice(WORDS)} {chance.randrange(1000)}" for _ in range(words))


def value(connection: Connection, statement: str, *parameters: Any) -> Any:
    """The only value of a query."""
    row = connection.execute(statement, parameters).fetchone()
    assert row is not None
    return row[0]


def waiting(connection: Connection) -> int:
    """Rows of the queue, and keys that writers have just put down."""
    return int(
        value(
            connection,
            "select (select count(*) from pgembed.stale)"
            " + (select coalesce(sum(row_count), 0) from pgembed.change)",
        )
    )


def eventually(condition: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    """Wait until something is true, and return it; what says for what one waited in vain."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.005)
    return found


def drained(connection: Connection, seconds: float = 90) -> None:
    """Wait until the workers have emptied the queue."""
    eventually(lambda: waiting(connection) == 0, "the queue is empty", seconds)


@contextmanager
def own_server(**settings: str) -> Iterator[tuple[EmbeddedServer, Path]]:
    """A server of the test's own, with PostgreSQL's durable defaults, and ``tiny`` in it."""
    with TemporaryDirectory(prefix="pgembed-torture-") as folder:
        home = Path(folder)
        home.chmod(0o755)  # as root the server runs under another account
        with EmbeddedServer(home / "home", settings=settings) as server:
            prepare(server.url, home / "tiny")
            yield server, home


def prepare(url: str, folder: Path) -> None:
    """Install pgembed and the encoder ``tiny``."""
    migrate(url)
    with connect(url) as connection:
        register_encoder(connection, str(make_tiny_encoder(folder)), name="tiny")


@dataclass(slots=True)
class Verdict:
    """What is wrong once the queue is empty; nothing should be."""

    rows: int = 0
    chunks: int = 0
    lost: int = 0
    """Acknowledged writes that are not there, and chunks that a row lacks."""
    duplicate: int = 0
    """Chunks too many, and rows that nobody wrote."""
    stale: int = 0
    """Chunks of another text or model than their row's, or with another text's vector."""
    failed: int = 0
    """Rows that were given up."""
    waiting: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether every row is what its writer was told."""
        return not (self.lost or self.duplicate or self.stale or self.failed or self.waiting)

    def note(self, kind: str, what: object) -> None:
        """Count one thing that is wrong."""
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.examples) < 20:
            self.examples.append(f"{kind}: {what}")


def judge(connection: Connection, ledger: Mapping[int, str]) -> Verdict:
    """Compare the table with what its writers were told, and the chunks with the table.

    The chunks are made anew from the ledger, cut, hashed and encoded; ``audit_sync`` has to agree.
    """
    verdict = Verdict(rows=len(ledger), waiting=waiting(connection))
    source = dict(connection.execute("select id, coalesce(body, '') from notes").fetchall())
    for key in ledger.keys() - source.keys():
        verdict.note("lost", f"row {key}")
    for key in source.keys() - ledger.keys():
        verdict.note("duplicate", f"row {key} that nobody wrote")
    for key in source.keys() & ledger.keys():
        if source[key] != ledger[key]:
            verdict.note("lost", f"row {key}: {source[key][:40]!r}, not {ledger[key][:40]!r}")
    _judge_chunks(connection, ledger, verdict)
    verdict.failed = int(value(connection, "select count(*) from pgembed.failure"))
    for key, error in connection.execute("select key, error from pgembed.failure limit 5"):
        verdict.examples.append(f"failed: {key}: {error}")
    audit = audit_sync(connection, "notes")
    found = audit.lost_count, audit.left_over_count, audit.stale_count
    if any(found) != any((verdict.lost, verdict.duplicate, verdict.stale)):
        verdict.note("stale", f"audit_sync finds {found}, the ledger does not")
    return verdict


def _judge_chunks(connection: Connection, ledger: Mapping[int, str], verdict: Verdict) -> None:
    target = search_target(connection, "notes")
    model = open_registered(connection, "tiny")
    expected = {
        (key, chunk.number): chunk.content
        for key, body in ledger.items()
        for chunk in model.chunk(
            body, max_tokens=target.collection.max_tokens, overlap=target.collection.overlap
        )
    }
    stored = {
        (key, number): (content, bytes(digest), vector)
        for key, number, content, digest, vector in connection.execute(
            "select id, chunk_no, content, content_hash, embedding::real[] from pgembed_data.notes"
        )
    }
    verdict.chunks = len(stored)
    for key in expected.keys() - stored.keys():
        verdict.note("lost", f"chunk {key}")
    for key in stored.keys() - expected.keys():
        verdict.note("duplicate", f"chunk {key}")
    both = sorted(expected.keys() & stored.keys())
    texts = list(dict.fromkeys(expected[key] for key in both))
    vectors = dict(zip(texts, model.encode_document(texts), strict=True)) if texts else {}
    for key in both:
        content, digest, vector = stored[key]
        right = expected[key]
        if content != right or digest != content_hash(target.fingerprint, right):
            verdict.note("stale", f"chunk {key} holds {content[:40]!r}, not {right[:40]!r}")
        elif not np.allclose(vector, vectors[right], atol=2e-3):
            verdict.note("stale", f"the vector of chunk {key} is another text's")


def lost_connection(error: psycopg.Error, connection: Connection) -> bool:
    """Whether a statement failed because the server, or the way to it, is gone."""
    return connection.closed or isinstance(
        error, psycopg.errors.AdminShutdown | psycopg.errors.CrashShutdown
    )

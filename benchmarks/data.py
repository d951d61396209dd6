"""The judged sets of shared/data, read from their tarballs, and a server to put them in."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgembed.database import Connection, connect
from pgembed.judgments import seeded_share
from pgembed.model import Judgment
from pgembed.registry import register_encoder
from pgembed.schema import migrate
from pgembed.server import EmbeddedServer, default_home

SHARED = Path(os.environ.get("PGEMBED_SHARED", Path(__file__).parents[2] / "shared"))
"""Folder that holds data/; elsewhere: set PGEMBED_SHARED."""

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Document:
    """A document of a set."""

    id: str
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class JudgedSet:
    """A retrieval set in BEIR layout."""

    name: str
    documents: list[Document]
    judgments: dict[str, dict[str, dict[str, int]]]
    """Grades above 0 by split, query text and document id."""


def require_shared() -> None:
    """Leave politely where the data is not there."""
    if not (SHARED / "data").is_dir():
        print(f"This benchmark needs the judged sets in {SHARED / 'data'}; nothing was measured.")
        sys.exit(0)


def server() -> EmbeddedServer:
    """An embedded server of the benchmarks' own; its database is kept between runs."""
    return EmbeddedServer(
        default_home().parent / "benchmarks",
        settings={"maintenance_work_mem": "1GB", "max_wal_size": "8GB", "shared_buffers": "2GB"},
    )


def open_database(url: str, name: str, *, fresh: bool) -> Connection:
    """A migrated database of a benchmark's own, with encoder minilm."""
    with psycopg.connect(url, autocommit=True) as admin:
        if fresh:
            statement = sql.SQL("drop database if exists {} with (force)")
            admin.execute(statement.format(sql.Identifier(name)))
        known = "select from pg_database where datname = %s"
        if admin.execute(known, (name,)).fetchone() is None:
            admin.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    own = make_conninfo(**{**conninfo_to_dict(url), "dbname": name})
    migrate(own)
    connection = connect(own)
    register_encoder(connection, "minilm")
    return connection


@cache
def read_set(name: str) -> JudgedSet:
    """Read one set; texts lose the characters that PostgreSQL does not store."""
    files = dict(_members(name))
    documents = [
        Document(item["_id"], _clean(item.get("title") or ""), _clean(item["text"]))
        for item in _lines(files["corpus.jsonl"])
    ]
    texts = {item["_id"]: _clean(item["text"]) for item in _lines(files["queries.jsonl"])}
    judgments = {
        Path(path).stem: _qrels(files[path], texts) for path in files if path.startswith("qrels/")
    }
    return JudgedSet(name, documents, judgments)


def records(name: str, member: str, *, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """Lines of one member as they are, metadata included, with texts as read_set has them."""
    packed = next(content for path, content in _members(name) if path == member)
    for item in islice(_lines(packed), limit):
        yield item | {key: _clean(item.get(key) or "") for key in ("title", "text")}


def sampled(judged: JudgedSet, key: str, *, train: int, dev: int, test: int) -> list[Judgment]:
    """Judgments of at most so many queries a split, the first ones by a seeded hash of their text.

    A set without a dev split gets 20 % of its training queries, chosen by the same hash.

    Args:
        judged: the set; its name becomes the domain.
        key: format of a document's key, with ``{}`` for its id.
        train: queries at most.
        dev: queries at most.
        test: queries at most.
    """
    splits = {name: dict(judged.judgments.get(name, {})) for name in ("train", "dev", "test")}
    for earlier, later in (("dev", "test"), ("train", "test"), ("train", "dev")):
        # Some queries of different ids are the same text: it belongs to one split only.
        splits[earlier] = {q: g for q, g in splits[earlier].items() if q not in splits[later]}
    if not splits["dev"]:
        chosen = [text for text in splits["train"] if seeded_share(text) < 0.2]
        splits["dev"] = {text: splits["train"].pop(text) for text in chosen}
    limits = {"train": train, "dev": dev, "test": test}
    known = {document.id for document in judged.documents}
    return [
        Judgment(text, key.format(json.dumps(document)), grade, split, judged.name)
        for split, queries in splits.items()
        for text in sorted(queries, key=lambda text: seeded_share(text, seed=1))[: limits[split]]
        for document, grade in queries[text].items()
        if document in known
    ]


def _members(name: str) -> Iterator[tuple[str, bytes]]:
    import zstandard

    with (SHARED / "data" / f"{name}.tar.zst").open("rb") as packed:
        reader = zstandard.ZstdDecompressor().stream_reader(packed)
        with tarfile.open(fileobj=reader, mode="r|") as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is not None:
                    yield member.name.split("/", 1)[1], content.read()


def _lines(data: bytes) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in io.BytesIO(data) if line.strip())


def _qrels(data: bytes, texts: dict[str, str]) -> dict[str, dict[str, int]]:
    judged: dict[str, dict[str, int]] = {}
    for line in data.decode().splitlines()[1:]:
        query, document, grade = line.split("\t")
        text = texts.get(query, "").strip()
        if text and int(float(grade)) > 0:
            judged.setdefault(text, {})[document] = int(float(grade))
    return judged


def _clean(text: str) -> str:
    return text.replace("\0", "").encode("utf-8", "ignore").decode()

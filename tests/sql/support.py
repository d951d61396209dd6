"""What the tests of SQL functions share: embedding without a model, and errors of ours."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from psycopg import sql
from psycopg.abc import Params, Query

from pgembed.database import Connection, translated
from pgembed.errors import PgembedError

FINGERPRINT = "ab" * 32

STAGING = (
    "create temporary table if not exists pgembed_staging (key text not null, chunk_no int not null,"
    " content text not null, span_start int not null, span_end int not null,"
    " content_hash bytea not null, embedding public.halfvec) on commit delete rows"
)


def refused(
    connection: Connection,
    error: type[PgembedError],
    statement: Query,
    parameters: Params | None = None,
) -> PgembedError:
    """The error of ours that a statement ends in; the test's transaction goes on."""
    with pytest.raises(error) as raised, translated(), connection.transaction():
        connection.execute(statement, parameters)
    return raised.value


def scalar(connection: Connection, statement: Query, parameters: Params | None = None) -> Any:
    """The only value of a query."""
    row = connection.execute(statement, parameters).fetchone()
    assert row is not None
    return row[0]


def column(connection: Connection, statement: Query, parameters: Params | None = None) -> list[Any]:
    """The first column of a query."""
    return [row[0] for row in connection.execute(statement, parameters).fetchall()]


def stale_keys(connection: Connection, collection: str) -> list[str]:
    """Keys that wait to be embedded, sorted as text."""
    return column(
        connection,
        "select key from (select key from pgembed.stale where collection = %(name)s union"
        " select unnest(keys) from pgembed.change where collection = %(name)s) as waiting"
        ' order by key collate "C"',
        {"name": collection},
    )


def clear_queue(connection: Connection) -> None:
    """Forget what waits to be embedded."""
    connection.execute("delete from pgembed.stale")
    connection.execute("delete from pgembed.change")


def as_literal(vector: Sequence[float] | NDArray[Any]) -> str:
    """A vector as pgvector reads it."""
    return "[" + ",".join(repr(float(number)) for number in vector) + "]"


def vector_of(text: str, dimensions: int) -> NDArray[np.float64]:
    """A unit vector that is always the same for a text."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    vector = np.random.default_rng(seed).standard_normal(dimensions)
    return np.asarray(vector / np.linalg.norm(vector))


def stage(connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
    """Fill this session's staging table: key, chunk_no, content, hash, vector or None."""
    connection.execute(STAGING)
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into pg_temp.pgembed_staging values (%s, %s, %s, 0, %s, %s, %s::public.halfvec)",
            [
                (key, number, content, len(content), digest, vector and as_literal(vector))
                for key, number, content, digest, vector in rows
            ],
        )


def embed(connection: Connection, collection: str, *, chunk_length: int = 10_000) -> int:
    """Bring a collection up to date as a worker in any language would; how many rows were written.

    Texts are cut every ``chunk_length`` characters, and vectors are made from the text alone.
    """
    claimer = scalar(connection, "select pgembed.register_claimer()")
    dimensions = scalar(
        connection, "select dimensions from pgembed.describe_collection(%s)", (collection,)
    )
    claimed = connection.execute(
        "select key, version, content from pgembed.claim(%s, %s, 1000000)", (collection, claimer)
    ).fetchall()
    rows = []
    with connection.transaction():
        for key, _, content in claimed:
            pieces = [
                content[start : start + chunk_length]
                for start in range(0, len(content or ""), chunk_length)
            ]
            for number, piece in enumerate(pieces):
                digest = hashlib.sha256(piece.encode()).digest()
                rows.append((key, number, piece, digest, vector_of(piece, dimensions).tolist()))
        stage(connection, rows)
        written: int = scalar(
            connection,
            "select pgembed.write_batch(%s, %s, %s::text[], %s::bigint[])",
            (collection, claimer, [row[0] for row in claimed], [row[1] for row in claimed]),
        )
        connection.execute("delete from pg_temp.pgembed_staging")
    return written


def register_plain_encoder(
    connection: Connection, name: str = "plain", dimensions: int = 4, max_tokens: int = 64
) -> None:
    """An encoder that no client could open, for collections whose vectors the test makes."""
    connection.execute(
        "select pgembed.register_encoder(%s, %s, %s, %s, 'mean', 'nowhere')",
        (name, FINGERPRINT, dimensions, max_tokens),
    )


def create_collection(
    connection: Connection, name: str, source: str, content: Sequence[str], **options: Any
) -> None:
    """``pgembed.create_collection`` with named arguments."""
    arguments = {"encoder": "tiny", **options}
    named = sql.SQL("").join(
        sql.SQL(", {} => {}").format(sql.Identifier(option), sql.Placeholder(option))
        for option in arguments
    )
    connection.execute(
        sql.SQL(
            "select pgembed.create_collection(%(name)s, %(source)s::text::regclass,"
            " %(content)s::text[]{})"
        ).format(named),
        {"name": name, "source": source, "content": list(content), **arguments},
    )


def second_session(connection: Connection) -> Connection:
    """Another connection to the same database, in autocommit mode."""
    return psycopg.connect(connection.info.dsn, password=connection.info.password, autocommit=True)

"""pgembed.copying: what is packed is what PostgreSQL reads."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgembed.copying import ChunkRow, copy_blocks, halfvec_fields
from pgembed.database import Connection
from pgembed.model import Vectors

Row = tuple[str, int, str, int, int, bytes, str | None]


@pytest.fixture
def staging(shared: Connection) -> Connection:
    """A connection with a table that has the staging table's columns."""
    shared.execute(
        "create temporary table packed (n int generated always as identity, key text not null,"
        " chunk_no int not null, content text not null, span_start int not null,"
        " span_end int not null, content_hash bytea not null, embedding halfvec)"
    )
    return shared


def copied(connection: Connection, rows: Sequence[ChunkRow], vectors: Vectors) -> list[Row]:
    """What the table holds after a real COPY of the packed rows."""
    connection.execute("truncate packed")
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "copy packed (key, chunk_no, content, span_start, span_end, content_hash, embedding)"
            " from stdin (format binary)"
        ) as copy,
    ):
        for block in copy_blocks(rows, halfvec_fields(vectors)):
            copy.write(block)
    return connection.execute(
        "select key, chunk_no, content, span_start, span_end, content_hash, embedding::text"
        " from packed order by n"
    ).fetchall()


def expected(rows: Sequence[ChunkRow], vectors: Vectors) -> list[Row]:
    """The same rows, an embedding as the text of numpy's nearest float16."""
    return [
        (
            row.key,
            row.chunk_no,
            row.content,
            row.start,
            row.end,
            row.content_hash,
            None if row.embedding is None else as_text(vectors[row.embedding]),
        )
        for row in rows
    ]


def as_text(vector: Vectors) -> str:
    """A vector as PostgreSQL writes it: the shortest decimals of each float16 as a float32."""
    return "[" + ",".join(shortest(value) for value in vector.astype(np.float16)) + "]"


def shortest(value: np.float16) -> str:
    """The shortest decimals that read back as this value, -0 included."""
    return np.format_float_positional(np.float32(value), trim="-")


def row(n: int, key: str, content: str, embedding: int | None) -> ChunkRow:
    """A row whose numbers are all different."""
    digest = hashlib.sha256(content.encode()).digest()
    return ChunkRow(key, n, content, 10 * n, 10 * n + len(content), digest, embedding)


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(texts, texts, st.one_of(st.none(), st.integers(0, 2))), max_size=8))
def test_every_text_reads_back_as_it_was(
    staging: Connection, drawn: list[tuple[str, str, int | None]]
) -> None:
    """Keys and contents of any characters, empty ones too, and embeddings, NULL ones too."""
    vectors = np.array([[0.5, -0.25], [1, 0], [0, 0.125]], dtype=np.float32)
    rows = [row(n, key, content, vector) for n, (key, content, vector) in enumerate(drawn)]
    assert copied(staging, rows, vectors) == expected(rows, vectors)


def test_an_embedding_is_rounded_to_float16_as_numpy_does(staging: Connection) -> None:
    """Ties to even, subnormals and the largest number included."""
    numbers = [1 + 2**-11, 1 + 3 * 2**-11, 2**-24, 2**-25, 2**-14, 65504, -1 / 3, 0.1, 1e-9]
    random = np.random.default_rng(7).standard_normal((3, len(numbers)))
    vectors = np.concatenate([[numbers], random]).astype(np.float32)
    rows = [row(n, str(n), "text", n) for n in range(len(vectors))]
    copied(staging, rows, vectors)
    stored = staging.execute("select embedding::vector::real[] from packed order by n").fetchall()
    rounded = vectors.astype(np.float16).astype(np.float32)
    assert np.array_equal(np.array([vector for (vector,) in stored], np.float32), rounded)


def test_one_vector_may_serve_several_rows(staging: Connection) -> None:
    """Rows of one text refer to one vector, in any order."""
    vectors = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32)
    rows = [row(0, "a", "x", 1), row(1, "b", "y", 0), row(2, "c", "x", 1), row(3, "d", "z", None)]
    found = [embedding for *_, embedding in copied(staging, rows, vectors)]
    assert found == ["[4,5,6]", "[1,2,3]", "[4,5,6]", None]


def test_no_rows_are_a_valid_copy(staging: Connection) -> None:
    """A batch without chunks, as of empty texts only, is no error."""
    assert copied(staging, [], np.zeros((0, 3), np.float32)) == []


def test_a_megabyte_of_text_fits(staging: Connection) -> None:
    """Lengths are 32 bits wide, and count bytes rather than characters."""
    content = "naïve 語 🙂 " * 100_000
    ((_, _, stored, *_),) = copied(
        staging, [row(0, "k" * 2000, content, None)], np.zeros((0, 1), np.float32)
    )
    assert stored == content

"""Search as a SQLAlchemy expression."""

from __future__ import annotations

import numpy as np
import pytest
import sqlalchemy as sa
from pgvector.sqlalchemy import HALFVEC
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pgembed.database import Connection
from pgembed.registry import open_registered
from pgembed.searching import search as plain_search
from pgembed.sqlalchemy import encode, search
from tests.sql.texts import Worker


class Base(DeclarativeBase):
    """The user's models."""


class Paper(Base):
    """The user's table of fixture ``papers``."""

    __tablename__ = "papers"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    year: Mapped[int]


def statement(vector: np.ndarray, **options: object) -> sa.Select[tuple[Paper, float]]:
    """Papers with their score, best first."""
    hit = search("papers", vector, **options)
    joined = sa.select(Paper, hit.c.score).join(hit, hit.c.key == sa.cast(Paper.id, sa.Text))
    return joined.order_by(hit.c.rank)


def engine_url(connection: Connection) -> sa.URL:
    """The test's database, for SQLAlchemy."""
    info = connection.info
    return sa.URL.create(
        "postgresql+psycopg", info.user, info.password, info.host, info.port, info.dbname
    )


def test_the_expression_joins_hits_to_a_model(papers: Connection) -> None:
    """The rows and their order are those of pgembed.search; the filter counts."""
    vector = open_registered(papers, "tiny").encode_query(["red apple"])[0]
    hits = plain_search(papers, "papers", vector, k=4, filter={"year": {"gte": 2010}})
    engine = sa.create_engine(engine_url(papers))
    with Session(engine) as session:
        rows = session.execute(statement(vector, k=4, filter={"year": {"gte": 2010}})).all()
    engine.dispose()
    assert [str(paper.id) for paper, _ in rows] == [hit.key for hit in hits]
    assert all(paper.year >= 2010 for paper, _ in rows)


def test_words_make_the_search_hybrid(papers: Connection) -> None:
    """The same hits as the Python search with hybrid=True."""
    hits = plain_search(papers, "papers", "slow train", k=4, mode="base", hybrid=True)
    vector = open_registered(papers, "tiny").encode_query(["slow train"])[0]
    engine = sa.create_engine(engine_url(papers))
    with Session(engine) as session:
        rows = session.execute(statement(vector, k=4, words="slow train")).all()
    engine.dispose()
    assert [str(paper.id) for paper, _ in rows] == [hit.key for hit in hits]


def test_every_option_of_search_is_one_of_the_expression(papers: Connection) -> None:
    """Pages, groups, columns, exclusion and fusion give what the Python search gives."""
    encoder = open_registered(papers, "tiny")
    vector, unwanted = encoder.encode_query(["slow train", "red apple"])
    options = {
        "k": 3,
        "exclude": [unwanted],
        "columns": ["topic"],
        "group_by": "topic",
        "min_score": -0.9,
        "offset": 1,
    }
    hits = plain_search(papers, "papers", vector, **options)
    engine = sa.create_engine(engine_url(papers))
    with engine.connect() as opened:
        hit = search("papers", vector, **options)
        rows = opened.execute(sa.select(hit.c.key, hit.c.fields, hit.c.cursor)).all()
    engine.dispose()
    assert [tuple(row) for row in rows] == [(h.key, h.fields, h.cursor) for h in hits]
    with pytest.raises(TypeError, match="no option 'nope'"):
        search("papers", vector, nope=1)


def test_the_expression_runs_in_an_async_engine(papers: Connection) -> None:
    """An asyncio caller gets the same rows."""
    import asyncio

    vector = open_registered(papers, "tiny").encode_query(["deep ocean"])[0]

    async def run() -> int:
        engine = create_async_engine(engine_url(papers))
        async with engine.connect() as opened:
            rows = (await opened.execute(statement(vector, k=3))).all()
        await engine.dispose()
        return len(rows)

    assert asyncio.run(run()) == 3


class Chunk(Base):
    """The side table of collection ``papers``."""

    __tablename__ = "papers"
    __table_args__ = {"schema": "pgembed_data"}  # noqa: RUF012 - as SQLAlchemy wants it
    id: Mapped[int] = mapped_column(primary_key=True)
    chunk_no: Mapped[int] = mapped_column(primary_key=True)
    embedding = mapped_column(HALFVEC(32))


def test_a_text_is_searched_by_a_worker(texts: Connection, worker: Worker) -> None:
    """The options of a text: mode, hybrid, exclude as texts; the hits are those of Python."""
    options = {"k": 4, "mode": "base", "hybrid": True, "exclude": ["green pear"]}
    hits = plain_search(texts, "papers", "red apple", **options)
    engine = sa.create_engine(engine_url(texts))
    with Session(engine) as session:
        rows = session.execute(statement("red apple", **options)).all()
    engine.dispose()
    assert [str(paper.id) for paper, _ in rows] == [hit.key for hit in hits]
    assert worker.asked == ["green pear", "red apple"]
    with pytest.raises(TypeError, match="no option 'nope'"):
        search("papers", "text", nope=1)
    with pytest.raises(TypeError, match="hybrid=True"):
        search("papers", "text", words="text")
    with pytest.raises(TypeError, match="no option 'mode'"):
        search("papers", [1.0], mode="base")


def test_encode_composes(texts: Connection, worker: Worker) -> None:
    """Ordered by distance to an encoded text, in a sync and an async engine, by one request."""
    import asyncio

    nearest = (
        sa.select(Chunk.id)
        .order_by(Chunk.embedding.cosine_distance(encode("papers", "red apple", mode="base")))
        .limit(3)
    )
    hits = plain_search(texts, "papers", "red apple", k=3, mode="base")

    async def run() -> list[int]:
        engine = create_async_engine(engine_url(texts))
        async with engine.connect() as opened:
            found = (await opened.execute(nearest)).scalars().all()
        await engine.dispose()
        return list(found)

    engine = sa.create_engine(engine_url(texts))
    with Session(engine) as session:
        found = session.execute(nearest).scalars().all()
    engine.dispose()
    assert worker.asked == ["red apple"]
    assert [str(key) for key in found] == [hit.key for hit in hits]
    assert asyncio.run(run()) == list(found)

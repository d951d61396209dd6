"""Filtered search by vector stores that keep their rows in PostgreSQL; run by search_bands.

Knows nothing of pgembed, because it runs in a virtual environment that does not have it. Each store
makes its table, writes the rows and searches through its own interface; the rows are those of the
table arxiv and its side table. Tables that hold as many rows already are kept.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
from langchain_core.documents import Document
from langchain_core.embeddings import FakeEmbeddings
from langchain_postgres import Column, PGEngine, PGVector, PGVectorStore
from langchain_postgres.v2.hybrid_search_config import HybridSearchConfig
from langchain_postgres.v2.indexes import HNSWIndex
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from llama_index.vector_stores.postgres import PGVectorStore as LlamaStore
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool

K = 10
SIZE = 384
BLOCK = 2_000
"""Rows a call: one statement has at most 65,535 parameters."""
LANGCHAIN_OPERATORS = {"=": "$eq", ">=": "$gte", "<=": "$lte", "between": "$between"}
LLAMA_OPERATORS = {
    "=": FilterOperator.EQ,
    ">=": FilterOperator.GTE,
    "<=": FilterOperator.LTE,
    "contains": FilterOperator.CONTAINS,
}
LISTS = ("categories", "authors")

AUTO_EXPLAIN = {
    "log_analyze": "on",
    "log_buffers": "on",
    "log_timing": "off",
    "log_format": "json",
    "log_level": "notice",
    "log_min_duration": "-1",
}

Search = Callable[[dict[str, Any]], list[str]]
"""Ids of the rows found for a case: its vector, text, and conditions."""


class PageCounter:
    """Counts the pages of a search as it runs, prepared statements included: auto_explain tells."""

    def __init__(self) -> None:
        self.active = False
        self.pages = 0
        event.listen(Pool, "connect", self.connected)
        event.listen(Engine, "before_cursor_execute", self.executing)

    def connected(self, connection: Any, _record: object) -> None:
        """Load auto_explain into a new connection of any driver, and hear its notices."""
        cursor = connection.cursor()
        cursor.execute("load 'auto_explain'")
        for name, value in AUTO_EXPLAIN.items():
            cursor.execute(f"set auto_explain.{name} = {value}")
        connection.commit()
        driver = getattr(connection, "driver_connection", connection)
        if hasattr(driver, "add_notice_handler"):  # psycopg
            driver.add_notice_handler(lambda notice: self.append(notice.message_primary))
        elif hasattr(driver, "add_log_listener"):  # asyncpg
            driver.add_log_listener(lambda _, notice: self.append(notice.message))
        else:  # psycopg2
            driver.notices = self

    def executing(self, connection: Any, *_: object) -> None:
        """Switch it on for the transaction of a search that is counted."""
        if self.active:
            cursor = connection.connection.cursor()
            cursor.execute("set local auto_explain.log_min_duration = 0")
            cursor.close()

    def append(self, notice: str) -> None:
        """Add the pages of a statement; its planning is not counted."""
        if "plan:\n" in notice:
            plan = json.loads(notice[notice.index("{") : notice.rindex("}") + 1])["Plan"]
            self.pages += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]

    def count(self, work: Callable[[], object]) -> int:
        """Pages of the statements of a piece of work."""
        self.active, self.pages = True, 0
        work()
        time.sleep(0.02)  # asyncpg tells from its own thread, a little later
        self.active = False
        return self.pages


def blocks(
    connection: psycopg.Connection[Any],
) -> Iterator[list[tuple[str, str, dict[str, Any], list[float]]]]:
    """The rows as id, title, attributes, vector."""
    statement = (
        "select s.id, s.title, to_jsonb(s) - array['id', 'n', 'title', 'abstract'],"
        " d.embedding::vector::real[] from arxiv as s join pgembed_data.arxiv as d on d.id = s.id"
    )
    with connection.cursor("rows", withhold=True) as cursor:
        cursor.execute(statement)
        while block := cursor.fetchmany(BLOCK):
            yield block


def filled(connection: psycopg.Connection[Any], table: str) -> bool:
    """Whether a table holds all rows and has an HNSW index."""
    indexed = (
        "select from pg_indexes where schemaname = 'public' and tablename = %s"
        " and indexdef like '%%USING hnsw%%'"
    )
    if connection.execute(indexed, (table,)).fetchone() is None:
        return False
    same = f"select (select count(*) from {table}) = (select count(*) from arxiv)"
    return connection.execute(same).fetchone() == (True,)


def langchain(url: str, connection: psycopg.Connection[Any]) -> Search:
    """PGVector of langchain-postgres: attributes in jsonb."""
    known = filled(connection, "langchain_pg_embedding")
    store = PGVector(
        embeddings=FakeEmbeddings(size=SIZE),
        embedding_length=SIZE,
        collection_name="arxiv",
        connection=url.replace("postgresql:", "postgresql+psycopg:"),
        pre_delete_collection=not known,
    )
    if not known:
        for block in blocks(connection):
            ids, titles, attributes, vectors = zip(*block, strict=True)
            store.add_embeddings(titles, list(vectors), list(attributes), list(ids))
        index = "using hnsw (embedding vector_cosine_ops) with (m = 16, ef_construction = 64)"
        connection.execute(f"create index on langchain_pg_embedding {index}")
        connection.execute("vacuum (analyze) langchain_pg_embedding")

    def search(case: dict[str, Any]) -> list[str]:
        filter = langchain_filter(case["conditions"], escape=False)
        found = store.similarity_search_with_score_by_vector(case["vector"], K, filter=filter)
        return [document.id for document, _ in found]

    return search


def langchain_columns(url: str, connection: psycopg.Connection[Any]) -> tuple[Search, Search]:
    """PGVectorStore of langchain-postgres: numbers in columns with indexes; dense, and hybrid."""
    engine = PGEngine.from_connection_string(url.replace("postgresql:", "postgresql+asyncpg:"))
    known = filled(connection, "langchain_columns")
    columns = numbers(connection)
    if not known:
        engine.init_vectorstore_table(
            "langchain_columns",
            SIZE,
            id_column=Column("langchain_id", "TEXT", nullable=False),
            metadata_columns=[Column(name, kind) for name, kind in columns.items()],
            overwrite_existing=True,
            hybrid_search_config=HybridSearchConfig(tsv_column="tsv"),
        )
    store = PGVectorStore.create_sync(
        engine,
        FakeEmbeddings(size=SIZE),
        "langchain_columns",
        metadata_columns=list(columns),
        hybrid_search_config=HybridSearchConfig(tsv_column="tsv"),
    )
    hybrid = HybridSearchConfig(tsv_column="tsv", primary_top_k=K, secondary_top_k=K)
    if not known:
        fill_columns(store, connection, columns)

    def search(case: dict[str, Any], **options: Any) -> list[str]:
        found: Sequence[tuple[Document, float]] = store.similarity_search_with_score_by_vector(
            case["vector"], K, langchain_filter(case["conditions"], escape=True), **options
        )
        return [document.id for document, _ in found]

    return (
        lambda case: search(case, hybrid_search_config=None),
        lambda case: search(case, hybrid_search_config=hybrid, fts_query=case["text"]),
    )


def fill_columns(
    store: PGVectorStore, connection: psycopg.Connection[Any], columns: dict[str, str]
) -> None:
    """Rows and indexes of the store with columns."""
    for block in blocks(connection):
        ids, titles, attributes, vectors = zip(*block, strict=True)
        store.add_embeddings(titles, list(vectors), list(attributes), list(ids))
    store.apply_vector_index(HNSWIndex(m=16, ef_construction=64))
    connection.execute("create index on langchain_columns using gin (tsv)")
    for name in columns:
        connection.execute(f"create index on langchain_columns ({name})")
    connection.execute("vacuum (analyze) langchain_columns")


def numbers(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """Attributes that fit a column of their own: not lists; primary is a word of SQL."""
    kinds = connection.execute(
        "select attname, format_type(atttypid, -1) from pg_attribute"
        " where attrelid = 'arxiv'::regclass and attnum > 0 and attname <> 'n'"
        " and atttypid in ('int'::regtype, 'boolean'::regtype) order by attnum"
    )
    return dict(kinds.fetchall())


def langchain_filter(conditions: list[list[Any]], *, escape: bool) -> dict[str, Any] | None:
    """Conditions as its filters; there is no "contains" for lists, so their text is matched."""
    parts = []
    for column, operator, value in conditions:
        if operator == "contains":
            written = json.dumps(value, ensure_ascii=escape).replace("\\", r"\\")
            parts.append({column: {"$like": f"%{written}%"}})
        else:
            parts.append({column: {LANGCHAIN_OPERATORS[operator]: value}})
    return {"$and": parts} if len(parts) > 1 else parts[0] if parts else None


def llama_index(url: str, connection: psycopg.Connection[Any]) -> Search:
    """PGVectorStore of LlamaIndex: attributes in jsonb, each with an index."""
    keys = {(name, "float") for name, kind in numbers(connection).items() if kind == "integer"}
    options: dict[str, Any] = {
        "connection_string": url.replace("postgresql:", "postgresql+psycopg2:"),
        "async_connection_string": url.replace("postgresql:", "postgresql+asyncpg:"),
        "table_name": "llama",
        "embed_dim": SIZE,
        "use_jsonb": True,
        "indexed_metadata_keys": keys | {("primary", "text")} | {(n, "text[]") for n in LISTS},
        "initialization_fail_on_error": True,
    }
    if not filled(connection, "data_llama"):
        connection.execute("drop table if exists data_llama")
        filling = LlamaStore(**options)
        for block in blocks(connection):
            filling.add(
                [
                    TextNode(id_=key, text=title, metadata=attributes, embedding=vector)
                    for key, title, attributes, vector in block
                ]
            )
    index = {"hnsw_m": 16, "hnsw_ef_construction": 64, "hnsw_ef_search": 40}
    store = LlamaStore(**options, hnsw_kwargs={**index, "hnsw_dist_method": "vector_cosine_ops"})
    store.query(VectorStoreQuery(query_embedding=[1.0] * SIZE, similarity_top_k=1))
    connection.execute("analyze data_llama")

    def search(case: dict[str, Any]) -> list[str]:
        filters = llama_filters(case["conditions"])
        query = VectorStoreQuery(
            query_embedding=case["vector"], similarity_top_k=K, filters=filters
        )
        return store.query(query).ids

    return search


def llama_filters(conditions: list[list[Any]]) -> MetadataFilters | None:
    """Conditions as its filters: a range is two, a boolean is its text, quotes are doubled."""
    parts = []
    for column, operator, value in conditions:
        if operator == "between":
            bounds = zip((FilterOperator.GTE, FilterOperator.LTE), value, strict=True)
            parts += [MetadataFilter(key=column, operator=one, value=end) for one, end in bounds]
            continue
        if isinstance(value, bool):
            value = json.dumps(value)
        elif isinstance(value, str):
            value = value.replace("'", "''")
        parts.append(MetadataFilter(key=column, operator=LLAMA_OPERATORS[operator], value=value))
    return MetadataFilters(filters=parts) if parts else None


def measured(counter: PageCounter, search: Search, case: dict[str, Any]) -> dict[str, Any]:
    """Ids, seconds and pages of a search, once it has run before."""
    search(case)
    started = time.perf_counter()
    ids = search(case)
    seconds = time.perf_counter() - started
    return {"ids": ids, "seconds": seconds, "buffers": counter.count(lambda: search(case))}


def main(folder: str) -> None:
    """Search all cases of folder/cases.json with each store; write folder/found.json.

    The database comes in the environment, since others can read the arguments of a process.
    """
    cases = json.loads(Path(folder, "cases.json").read_text())
    given = conninfo_to_dict(os.environ["PEERS_DSN"])
    own = "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**given)
    counter = PageCounter()
    with psycopg.connect(own, autocommit=True) as connection:
        stores: dict[str, Search] = {}
        stores["langchain PGVector"] = langchain(own, connection)
        dense, hybrid = langchain_columns(own, connection)
        stores["langchain PGVectorStore"] = dense
        stores["langchain hybrid"] = hybrid
        stores["llama-index"] = llama_index(own, connection)
    found = {}
    for name, search in stores.items():
        print(f"Searching with {name}: {len(cases)} queries", flush=True)
        found[name] = [measured(counter, search, case) for case in cases]
    Path(folder, "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])

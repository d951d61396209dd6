"""How the time of a search grows with the number of chunks: unfiltered, filtered and hybrid.

Rows are those of arxiv_200k, over and over, each time with noise of its own on the vector: so there
are as many as wanted, and no two are equal. ``python -m benchmarks.search_scale`` prints a table.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from psycopg import sql
from rich.console import Console
from rich.progress import track

from benchmarks.core import backend_cpu
from benchmarks.data import open_database, read_set, require_shared, server
from benchmarks.vectors import embedded
from pgembed.collections import create_collection
from pgembed.copying import ChunkRow, copy_blocks, halfvec_fields
from pgembed.database import Connection
from pgembed.model import Vectors

DATABASE = "pgembed_benchmark_scale"
SIZES = (10_000, 100_000, 1_000_000)
QUICK_SIZES = (5_000, 20_000)
BASE_ROWS, QUICK_BASE_ROWS = 200_000, 20_000
QUERIES, QUICK_QUERIES = 100, 40
BLOCK = 20_000
NOISE = 0.5
"""Length of the noise beside a vector of length 1: cosine 0.89 to the row that it is made from."""
K = 10

STAGING = (
    "create temporary table if not exists pgembed_staging"
    " (key text not null, chunk_no int not null, content text not null,"
    " span_start int not null, span_end int not null,"
    " content_hash bytea not null, embedding halfvec)"
)

console = Console()


def load(connection: Connection, rows: int, texts: list[str], vectors: Vectors) -> None:
    """Table and collection of so many rows, with weights, statistics and index."""
    name = f"scale_{rows}"
    table, side = sql.Identifier(name), sql.Identifier("pgembed_data", name)
    connection.execute(
        sql.SQL("create table {} (id int primary key, body text, draw int)").format(table)
    )
    connection.execute(
        sql.SQL(
            "insert into {} select n, '', (n * 7919::bigint) %% %s from generate_series(0, %s) as n"
        ).format(table),
        (rows, rows - 1),
    )
    connection.execute(sql.SQL("create index on {} (draw)").format(table))
    create_collection(connection, name, source=name, content=["body"], encoder="minilm")
    connection.execute("delete from pgembed.stale where collection = %s", (name,))
    connection.execute(STAGING)
    for start in track(range(0, rows, BLOCK), f"{rows} rows", console=console):
        stage(connection, range(start, min(start + BLOCK, rows)), texts, vectors)
        connection.execute(
            sql.SQL(
                "insert into {} (id, chunk_no, content, span, content_hash, embedding, bm25)"
                " select s.key::int, 0, s.content, int4range(0, s.span_end), s.content_hash,"
                " s.embedding, pgembed.bm25_weights(to_tsvector('english', s.content), a.average)"
                " from pg_temp.pgembed_staging as s, (select pgembed.average_length(c) as average"
                " from pgembed.collection as c where c.name = %s) as a"
            ).format(side),
            (name,),
        )
        connection.execute("truncate pg_temp.pgembed_staging")
    with console.status(f"Index of {rows} rows"):
        connection.execute("set maintenance_work_mem = '4GB'")
        connection.execute("select pgembed.build_index(%s)", (name,))
    connection.execute(sql.SQL("vacuum (analyze) {}, {}").format(table, side))


def stage(connection: Connection, numbers: range, texts: list[str], vectors: Vectors) -> None:
    """Copy a block of rows into the staging table; noise depends on the first number alone."""
    chosen = np.asarray(numbers) % len(vectors)
    noise = np.random.default_rng(numbers.start).standard_normal(
        (len(chosen), vectors.shape[1]), dtype=np.float32
    )
    block = vectors[chosen] + NOISE / np.sqrt(vectors.shape[1]) * noise
    block /= np.linalg.norm(block, axis=1, keepdims=True)
    rows = (
        ChunkRow(str(number), 0, text, 0, len(text), number.to_bytes(4), place)
        for place, number in enumerate(numbers)
        for text in (texts[number % len(texts)],)
    )
    copied = copy_blocks(rows, halfvec_fields(block))
    statement = "copy pg_temp.pgembed_staging from stdin (format binary)"
    with connection.cursor().copy(statement) as copy:
        for part in copied:
            copy.write(part)


def searches(rows: int) -> dict[str, str]:
    """The statement of each kind of query, with a vector, a text and a start for the filter."""
    call = f"select key from pgembed.search('scale_{rows}', %(vector)s::vector, {K}"
    return {
        "unfiltered": f"{call})",
        "1% filter": f"{call}, %(filter)s)",
        "hybrid": f"{call}, hybrid => true, query_text => %(text)s)",
        "hybrid, 1% filter": f"{call}, %(filter)s, hybrid => true, query_text => %(text)s)",
    }


def timed(connection: Connection, rows: int, queries: list[tuple[str, str]]) -> dict[str, Any]:
    """Milliseconds at the median and at 95 % of each kind, one client, caches warm."""
    found = {}
    starts = np.random.default_rng(5).integers(0, rows - rows // 100, len(queries))
    for kind, statement in searches(rows).items():
        seconds = []
        for (text, vector), start in zip(queries, starts, strict=True):
            between = [int(start), int(start) + rows // 100 - 1]
            values = {
                "vector": vector,
                "text": text,
                "filter": json.dumps({"draw": {"between": between}}),
            }
            for _ in range(2):  # the first one warms
                began = time.perf_counter()
                hits = connection.execute(statement.encode(), values).fetchall()
                took = time.perf_counter() - began
            assert len(hits) == K
            seconds.append(took)
        p50, p95 = np.percentile(seconds, (50, 95))
        found[kind] = {"p50": round(1e3 * p50, 2), "p95": round(1e3 * p95, 2)}
    return found


def hybrid_over_arms(connection: Connection, rows: int, queries: list[tuple[str, str]]) -> float:
    """CPU time of a hybrid search over that of its arms apart, in the server's backend."""
    name = f"scale_{rows}"
    statements = {
        "hybrid": searches(rows)["hybrid"],
        "dense": f"select key from pgembed.search('{name}', %(vector)s::vector, 100)",
        "lexical": "select a.keys from pgembed.collection as c,"
        f" pgembed.lexical_arm(c, %(text)s, 100, null) as a where c.name = '{name}'",
    }
    spent = dict.fromkeys(statements, 0.0)
    for text, vector in queries:
        for kind, statement in statements.items():
            for warm in (False, True):
                before = backend_cpu(connection.info.backend_pid)
                values = {"vector": vector, "text": text}
                connection.execute(statement.encode(), values).fetchall()
                if warm:
                    spent[kind] += backend_cpu(connection.info.backend_pid) - before
    return round(spent["hybrid"] / (spent["dense"] + spent["lexical"]), 3)


def measure(url: str, *, quick: bool = False) -> dict[str, dict[str, Any]]:
    """Times by number of rows and kind of query; tables that are there already are kept."""
    count = QUICK_BASE_ROWS if quick else BASE_ROWS
    judged = read_set("arxiv_200k")
    texts = [document.body[:240] for document in judged.documents[:count]]
    vectors = embedded("arxiv_200k", texts)
    asked = list(judged.judgments["test"])
    encoded = embedded("arxiv_200k", asked, queries=True)
    chosen = list(range(QUICK_QUERIES if quick else QUERIES))
    queries = [(asked[n], json.dumps(encoded[n].tolist())) for n in chosen]
    with open_database(url, DATABASE, fresh=False) as connection:
        return dict(times(connection, QUICK_SIZES if quick else SIZES, texts, vectors, queries))


def times(
    connection: Connection,
    sizes: tuple[int, ...],
    texts: list[str],
    vectors: Vectors,
    queries: list[tuple[str, str]],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each size in turn."""
    for rows in sizes:
        known = "select from pgembed.collection where name = %s and pgembed.has_hnsw(name)"
        if connection.execute(known, (f"scale_{rows}",)).fetchone() is None:
            load(connection, rows, texts, vectors)
        ratio = hybrid_over_arms(connection, rows, queries)
        yield str(rows), timed(connection, rows, queries) | {"hybrid_cpu_over_arms": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small tables")
    options = parser.parse_args()
    require_shared()
    with server() as running:
        console.print_json(data=measure(running.url, quick=options.quick))


if __name__ == "__main__":
    main()

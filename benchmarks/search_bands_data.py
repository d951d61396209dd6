"""Rows, vectors and filtered queries by selectivity, loaded once, and what exact search finds."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import psycopg
from pgvector import HalfVector
from pgvector.psycopg import register_vector
from psycopg import sql
from psycopg.types.range import Range
from rich.console import Console
from rich.progress import track

from benchmarks.data import open_database, records
from benchmarks.vectors import embedded
from pgembed.collections import create_collection
from pgembed.database import Connection
from pgembed.model import Vectors

SET = "arxiv_200k"
DATABASE = "pgembed_benchmark_bands_{}"
"""One for each number of rows: a small run does not throw away what a large one loaded."""
K = 10
PIVOTS = 4
SHARES = {"50%": 0.5, "10%": 0.1, "5%": 0.05, "1%": 0.01, "0.2%": 0.002, "0.02%": 0.0002}
"""Selectivities of the synthetic predicates; one that nothing matches has a band of its own."""
OPERATORS = {"=": "eq", ">=": "gte", "<=": "lte", "between": "between", "contains": "contains"}
"""Those of the data set, and their names in pgembed's filters."""
TIE = 1e-6
"""Distances closer than this are equal: sums of floats differ in their last digits."""
COLUMNS = {
    "id": "text primary key",
    "n": "int not null",
    "title": "text not null",
    "abstract": "text not null",
    "primary": "text not null",
    "categories": "text[] not null",
    "authors": "text[] not null",
    "num_authors": "int not null",
    "year": "int not null",
    "has_doi": "boolean not null",
    "draw": "int not null",
    **{f"near_{pivot}": "int not null" for pivot in range(PIVOTS)},
}
"""The source table: real attributes, a random number, and ranks by distance to each pivot."""
REAL_BANDS = ("no filter", "real >10%", "real 1-10%", "real <1%")
LISTS = ("categories", "authors")
UNINDEXED = ("id", "n", "title", "abstract", "has_doi")
"""Nobody makes an index of a boolean that splits the rows in halves."""

Condition = tuple[str, str, Any]
"""Column, operator of the data set, value."""

console = Console()


@dataclass(frozen=True, slots=True)
class Size:
    """How many queries are measured."""

    real: int
    """With their own predicates: recall and filled results."""
    real_costs: int
    """Of them, those whose pages are counted, beside single plans and peers."""
    synthetic: int
    """Of each synthetic band: so many of those nearest to each pivot; all with costs."""


QUICK = Size(real=120, real_costs=16, synthetic=1)
FULL = Size(real=2_000, real_costs=200, synthetic=3)


@dataclass(frozen=True, slots=True)
class Corpus:
    """The rows, as loaded and as numpy has them."""

    connection: Connection
    ids: dict[str, int]
    """Number of each row, by its id."""
    vectors: Vectors
    """As stored in half precision, widened and of length 1."""


@dataclass(frozen=True, slots=True)
class Case:
    """A query vector with a predicate: conditions that all hold."""

    band: str
    text: str
    vector: Vectors
    conditions: tuple[Condition, ...]
    costs: bool

    @property
    def filter(self) -> str | None:
        """The predicate in pgembed's filter language."""
        found: dict[str, dict[str, Any]] = defaultdict(dict)
        for column, operator, value in self.conditions:
            found[column][OPERATORS[operator]] = [value] if operator == "contains" else value
        return json.dumps(found) if found else None

    @property
    def where(self) -> str:
        """The predicate as SQL over alias s, as written by hand."""
        written = [condition_sql(*condition) for condition in self.conditions]
        return "where " + " and ".join(written) if written else ""

    @property
    def direction(self) -> Vectors:
        """The query as it is compared: of length 1, in half precision."""
        wide = self.vector.astype(np.float64)
        return (wide / np.linalg.norm(wide)).astype(np.float32).astype(np.float16)

    @property
    def literal(self) -> str:
        """The query as an SQL value."""
        return f"{vector_text(self.direction)!r}::halfvec"


@dataclass(frozen=True, slots=True)
class Truth:
    """What exact search by numpy finds."""

    matching: int
    distances: Vectors
    """Of all rows, infinite where they do not match."""
    cutoff: float
    """Distance of the k-th row."""

    @property
    def expected(self) -> int:
        """How many rows a search owes."""
        return min(K, self.matching)

    def recall(self, found: Sequence[int]) -> float | None:
        """Share of the k nearest that were found; None where there are none to find."""
        if not self.expected:
            return None
        right = sum(self.distances[number] <= self.cutoff + TIE for number in set(found))
        return min(int(right), self.expected) / self.expected


# Loading


def loaded(url: str, rows: int) -> Connection:
    """A connection to the database with so many rows, their vectors and the index."""
    name = DATABASE.format(rows)
    try:
        connection = open_database(url, name, fresh=False)
    except Exception as error:  # an unreleased schema changes in place
        console.print(f"Loading again, since the schema does not upgrade: {error}")
        connection = open_database(url, name, fresh=True)
    if not is_loaded(connection, rows):
        connection.close()
        connection = open_database(url, name, fresh=True)
        load(connection, rows)
    connection.cursor_factory = psycopg.ClientCursor
    return connection


def is_loaded(connection: Connection, rows: int) -> bool:
    """Whether both tables hold the rows, in the columns of now, and the index is there."""
    try:
        held = connection.execute(
            "select (select count(*) from arxiv), (select count(*) from pgembed_data.arxiv),"
            " pgembed.has_hnsw('arxiv'), (select array_agg(attname::text order by attnum)"
            " from pg_attribute where attrelid = 'arxiv'::regclass and attnum > 0)"
        ).fetchone()
    except psycopg.Error:
        return False
    return held == (rows, rows, True, list(COLUMNS))


def load(connection: Connection, rows: int) -> None:
    """Source table with indexes, collection, vectors, HNSW index, statistics."""
    documents = [source_row(record) for record in records(SET, "corpus.jsonl", limit=rows)]
    vectors = embedded(SET, [document["abstract"] for document in documents])
    near = ranks_by_pivot(vectors)
    draw = np.random.default_rng(1).permutation(rows)
    create_source(connection, "arxiv")
    names = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    with connection.cursor().copy(sql.SQL("copy arxiv ({}) from stdin").format(names)) as copy:
        for number, document in enumerate(track(documents, description="Rows", console=console)):
            ranks = {f"near_{pivot}": int(near[pivot, number]) for pivot in range(PIVOTS)}
            synthetic = {"n": number, "draw": int(draw[number]), **ranks}
            row = document | synthetic
            copy.write_row([row[name] for name in COLUMNS])
    index_source(connection, "arxiv")
    create_collection(connection, "arxiv", source="arxiv", content=["title"], encoder="minilm")
    write_vectors(connection, documents, vectors)
    with console.status("Building the HNSW index"):
        connection.execute("select pgembed.build_index('arxiv')")
    connection.execute("vacuum (analyze) arxiv, pgembed_data.arxiv")


def source_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """The real columns of a document; the abstract as far as it is embedded."""
    texts = {"id": record["_id"], "title": record["title"], "abstract": record["text"][:240]}
    return record["metadata"] | texts


def create_source(connection: Connection, name: str) -> None:
    """The empty table."""
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(kind))
        for column, kind in COLUMNS.items()
    )
    connection.execute(sql.SQL("create table {} ({})").format(sql.Identifier(name), columns))


def index_source(connection: Connection, name: str) -> None:
    """The indexes that a user makes for these predicates."""
    for column in COLUMNS:
        if column not in UNINDEXED:
            method = sql.SQL("gin" if column in LISTS else "btree")
            statement = sql.SQL("create index on {} using {} ({})")
            table, place = sql.Identifier(name), sql.Identifier(column)
            connection.execute(statement.format(table, method, place))


def ranks_by_pivot(vectors: Vectors) -> np.ndarray:
    """Rank of each row by its distance to each pivot, (PIVOTS, n)."""
    order = np.argsort(-(vectors @ pivots(vectors).T), axis=0, kind="stable")
    ranks = np.empty((PIVOTS, len(vectors)), dtype=np.int32)
    for pivot in range(PIVOTS):
        ranks[pivot, order[:, pivot]] = np.arange(len(vectors))
    return ranks


def pivots(vectors: Vectors) -> Vectors:
    """Random rows, the same ones each time."""
    chosen = np.random.default_rng(0).choice(len(vectors), PIVOTS, replace=False)
    return vectors[np.sort(chosen)]


def write_vectors(
    connection: Connection, documents: Sequence[Mapping[str, Any]], vectors: Vectors
) -> None:
    """Fill the side table as a bulk loader would."""
    register_vector(connection)
    statement = (
        "copy pgembed_data.arxiv (id, chunk_no, content, span, content_hash, embedding)"
        " from stdin (format binary)"
    )
    with connection.cursor().copy(statement) as copy:
        copy.set_types(["text", "int4", "text", "int4range", "bytea", "halfvec"])
        pairs = zip(documents, vectors, strict=True)
        for item, vector in track(pairs, "Vectors", total=len(documents), console=console):
            key, title = item["id"], item["title"]
            span = Range(0, max(len(title), 1))
            copy.write_row((key, 0, title, span, key.encode(), HalfVector(vector)))
    connection.execute("delete from pgembed.stale where collection = 'arxiv'")


def read_corpus(connection: Connection, rows: int) -> Corpus:
    """The stored vectors in the order of n, read from the database: nobody else's copy."""
    vectors = np.empty((rows, 384), dtype=np.float32)
    ids = {}
    statement = (
        "select s.n, s.id, d.embedding from pgembed_data.arxiv as d join arxiv as s on s.id = d.id"
    )
    register_vector(connection)
    with psycopg.ServerCursor(connection, "stored") as cursor, connection.transaction():
        cursor.itersize = 5_000
        for number, key, vector in cursor.execute(statement, binary=True):
            ids[key] = number
            vectors[number] = vector.to_numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Corpus(connection, ids, vectors)


# Predicates


def real_cases(corpus: Corpus, size: Size) -> list[Case]:
    """The set's queries with their own predicates, in an order by chance."""
    queries, vectors = read_queries()
    order = np.random.default_rng(2).permutation(len(queries))[: size.real]
    cases = []
    for position, number in enumerate(order):
        found = queries[number]["metadata"]["filter"]
        conditions = tuple((one["field"], one["op"], one["value"]) for one in found)
        case = Case(
            "", queries[number]["text"], vectors[number], conditions, position < size.real_costs
        )
        cases.append(replace(case, band=real_band(corpus, case)))
    return sorted(cases, key=lambda case: REAL_BANDS.index(case.band))


@cache
def read_queries() -> tuple[list[dict[str, Any]], Vectors]:
    """Queries and their vectors; those of the same text share one."""
    queries = list(records(SET, "queries.jsonl"))
    texts = list(dict.fromkeys(query["text"].strip() for query in queries))
    places = {text: place for place, text in enumerate(texts)}
    vectors = embedded(SET, texts, queries=True)
    return queries, vectors[[places[query["text"].strip()] for query in queries]]


def real_band(corpus: Corpus, case: Case) -> str:
    """The band of the share that matches among the loaded rows."""
    if not case.conditions:
        return "no filter"
    share = len(matching_numbers(corpus, case)) / len(corpus.ids)
    return "real >10%" if share > 0.1 else "real 1-10%" if share > 0.01 else "real <1%"


def synthetic_cases(corpus: Corpus, size: Size) -> Iterator[Case]:
    """For the queries nearest to each pivot: rows by chance, near the pivot, and far from it."""
    rows = len(corpus.ids)
    queries, vectors = read_queries()
    order = np.argsort(-(pivots(corpus.vectors) @ vectors.T), axis=1)[:, : size.synthetic]
    starts = np.random.default_rng(3).random(order.shape)
    for name, share in {**SHARES, "0": 0.0}.items():
        count = round(share * rows)
        for (pivot, place), query in np.ndenumerate(order):
            first = int(starts[pivot, place] * (rows - count))
            predicates = {
                "": ("draw", "between", [first, first + count - 1]),
                " correlated": (f"near_{pivot}", "between", [0, count - 1]),
                " anti-correlated": (f"near_{pivot}", ">=", rows - count),
            }
            for kind, predicate in predicates.items() if count else [("", predicates[""])]:
                yield Case(name + kind, queries[query]["text"], vectors[query], (predicate,), True)


def matching_numbers(corpus: Corpus, case: Case) -> np.ndarray:
    """Numbers of the rows that match, by the predicate as written by hand."""
    statement = f"select string_agg(int4send(s.n), '') from arxiv as s {case.where}"
    ((packed,),) = corpus.connection.execute(statement).fetchall()
    return np.frombuffer(packed or b"", dtype=">i4").astype(np.int64)


def exact_truth(corpus: Corpus, case: Case) -> Truth:
    """Brute force over all rows that match."""
    matching = matching_numbers(corpus, case)
    query = case.direction.astype(np.float32)
    distances = np.full(len(corpus.ids), np.inf, dtype=np.float32)
    distances[matching] = 1 - (corpus.vectors @ (query / np.linalg.norm(query)))[matching]
    expected = min(K, len(matching))
    cutoff = float(np.partition(distances, expected - 1)[expected - 1]) if expected else 0.0
    return Truth(len(matching), distances, cutoff)


# SQL


def condition_sql(column: str, operator: str, value: Any) -> str:
    """One condition as SQL over alias s."""
    place = f's."{column}"'
    if operator == "between":
        return f"{place} between {quoted(value[0])} and {quoted(value[1])}"
    if operator == "contains":
        return f"{place} @> array[{quoted(value)}]"
    return f"{place} {operator} {quoted(value)}"


def quoted(value: object) -> str:
    """A value as an SQL literal."""
    return sql.Literal(value).as_string(None)


def vector_text(vector: Vectors) -> str:
    """A vector as pgvector reads it."""
    return "[" + ",".join(format(float(number), ".9g") for number in vector) + "]"

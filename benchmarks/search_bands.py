"""Filtered search by selectivity: recall, filled results and pages read, beside single plans.

``python -m benchmarks.search_bands --rows 20000 --quick`` prints a table of the bands.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from pgvector import HalfVector
from pgvector.psycopg import register_vector
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.range import Range
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.data import open_database, records, require_shared, server
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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one way to search did with one case."""

    rows: int
    filled: bool
    recall: float | None
    buffers: int | None = None
    seconds: float | None = None
    plan: str | None = None


@dataclass(frozen=True, slots=True)
class SinglePlan:
    """A way to search that is fixed beforehand: the index with these settings."""

    iterative: str
    ef: int
    scanned: int = 20_000

    def __str__(self) -> str:
        """Its name in tables."""
        kind = "hnsw" if self.iterative == "off" else self.iterative.removesuffix("_order")
        return f"{kind} {self.ef}" + (f" to {self.scanned}" if self.scanned != 20_000 else "")

    @property
    def settings(self) -> dict[str, str]:
        """Settings of the transaction; without sorting, only the index gives the order."""
        return {
            "enable_sort": "off",
            "hnsw.iterative_scan": self.iterative,
            "hnsw.ef_search": str(self.ef),
            "hnsw.max_scan_tuples": str(self.scanned),
        }


@dataclass(frozen=True, slots=True)
class Cost:
    """What explain (analyze, buffers) tells of a statement, its planning included."""

    buffers: int
    """Pages found in shared buffers or read into them; one that is used twice counts twice."""
    rows: int
    index: bool
    """Whether the HNSW index was used."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One case by every way to search."""

    case: Case
    outcomes: dict[str, Outcome]
    plans: dict[str, Outcome]
    """Every single plan; none where costs are not measured."""
    best_plan: str | None = None
    """The cheapest here of the single plans that keep the promise in the whole band."""

    @property
    def best_buffers(self) -> int | None:
        """Pages of the best plan."""
        return self.plans[self.best_plan].buffers if self.best_plan else None

    @property
    def least_buffers(self) -> int | None:
        """Pages of the cheapest plan that was right for this query, as only hindsight knows."""
        right = [p.buffers for p in self.plans.values() if p.filled and p.recall in (1, None)]
        return min(right, default=None)


FIGURES = {
    "queries": "queries",
    "recall_at_10": "recall",
    "under_filled_queries": "short",
    "buffers_median": "pages",
    "buffers_vs_best_median": "/best",
    "buffers_vs_best_max": "max",
    "buffers_vs_hindsight_median": "/hindsight",
    "milliseconds_median": "ms",
    "time_vs_ours_median": "ms/ours",
}
"""Figures of each way to search, and their headings."""
EFS = (40, 100, 200, 400)
PROMISED_RECALL = 0.99
"""What a single plan has to reach on the queries of a band to be compared with."""
STOCK = {"pgvector": "off", "pgvector strict": "strict_order", "pgvector relaxed": "relaxed_order"}
"""Peers in plain SQL on one table, by the planner's own choice: kinds of iterative scan."""

PEERS = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"
"""Where langchain-postgres and LlamaIndex are: they pin an older pgvector."""

Found = dict[str, Any]
"""Ids, seconds and buffers of a peer's search."""
Results = dict[str, dict[str, dict[str, Any]]]
"""Figures by band and by way to search."""


def measure(
    url: str,
    *,
    rows: int = 200_000,
    quick: bool = False,
    peers: bool = True,
    stores: bool = True,
) -> Results:
    """Figures by band and by way to search: ``ours``, and each peer; ``overall`` has all bands.

    Pages and peers are of a sample of the real predicates; ``sampled_recall_at_10`` is ours there.

    Args:
        url: of a server; the data is loaded into a database of its own there, and kept.
        rows: how many of the set's documents.
        quick: fewer queries.
        peers: measure them too.
        stores: those of other packages among them, which load slowly.
    """
    return figures_by_band(measured_cases(url, rows=rows, quick=quick, peers=peers, stores=stores))


def measured_cases(
    url: str, *, rows: int, quick: bool, peers: bool, stores: bool = True
) -> list[Measured]:
    """Every case by every way to search: what ``measure`` sums up."""
    size = QUICK if quick else FULL
    with loaded(url, rows) as connection:
        corpus = read_corpus(connection, rows)
        cases = [*real_cases(corpus, size), *synthetic_cases(corpus, size)]
        others = search_peers(connection, url, rows, cases, stores) if peers else {}
        return [
            measure_case(corpus, case, others.get(number))
            for number, case in enumerate(track(cases, "Searches by band", console=console))
        ]


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


# Measuring


def search_peers(
    connection: Connection, url: str, rows: int, cases: Sequence[Case], stores: bool
) -> dict[int, dict[str, Found]]:
    """What the stores of the other virtual environment found, by number of the case."""
    make_items(connection)
    costly = [number for number, case in enumerate(cases) if case.costs]
    if not stores or not PEERS.exists():
        console.print("Only plain SQL is measured beside.")
        return {number: {} for number in costly}
    asked = [
        {
            "text": cases[number].text,
            "vector": cases[number].direction.astype(float).tolist(),
            "conditions": cases[number].conditions,
        }
        for number in costly
    ]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "cases.json").write_text(json.dumps(asked))
        script = Path(__file__).with_name("peer_stores.py")
        own = make_conninfo(**{**conninfo_to_dict(url), "dbname": DATABASE.format(rows)})
        subprocess.run([PEERS, script, folder], check=True, env=os.environ | {"PEERS_DSN": own})
        found = json.loads(Path(folder, "found.json").read_text())
    return {
        number: {way: searches[place] for way, searches in found.items()}
        for place, number in enumerate(costly)
    }


def make_items(connection: Connection) -> None:
    """The table that pgvector's documentation makes: rows and vectors in one, and an index."""
    held = "select to_regclass('items') is not null"
    if connection.execute(held).fetchone() == (True,):
        return
    with console.status("Making the table of plain SQL"), connection.transaction():
        connection.execute(
            "create table items as select s.*, d.embedding"
            " from arxiv as s join pgembed_data.arxiv as d on d.id = s.id"
        )
        connection.execute("alter table items add primary key (id)")
        index_source(connection, "items")
        connection.execute("create index on items using hnsw (embedding halfvec_cosine_ops)")
    connection.execute("vacuum (analyze) items")


def measure_case(corpus: Corpus, case: Case, others: dict[str, Found] | None) -> Measured:
    """Ours, and for cases with costs the best single plan; all peers where others are given."""
    truth = exact_truth(corpus, case)
    outcomes = {"ours": measure_ours(corpus, case, truth)}
    if not case.costs:
        return Measured(case, outcomes, {})
    if others is not None:
        for way, iterative in STOCK.items():
            outcomes[way] = measure_stock(corpus, case, truth, iterative)
        outcomes |= {way: elsewhere(corpus, truth, way, one) for way, one in others.items()}
    return Measured(case, outcomes, single_plans(corpus, case, truth))


def elsewhere(corpus: Corpus, truth: Truth, way: str, found: Found) -> Outcome:
    """Judge what another store found; a hybrid search is free to prefer other rows."""
    judged = outcome(truth, [corpus.ids[key] for key in found["ids"]], found["seconds"])
    judged = replace(judged, buffers=found["buffers"])
    return replace(judged, recall=None) if "hybrid" in way else judged


def measure_ours(corpus: Corpus, case: Case, truth: Truth) -> Outcome:
    """pgembed.search: first its rows, then its pages, when the session's caches are warm."""
    connection = corpus.connection
    query = quoted(vector_text(case.vector))
    wanted = "null" if case.filter is None else quoted(case.filter)
    call = f"pgembed.search('arxiv', {query}, {K}, {wanted})"
    ((plan,),) = connection.execute(
        f"select plan from pgembed.plan_search('arxiv', {K}, {wanted})"
    ).fetchall()
    found = replace(run(corpus, f"select key from {call}", truth), plan=plan)
    if not case.costs:
        return found
    found = replace(run(corpus, f"select key from {call}", truth), plan=plan)
    return replace(found, buffers=explained(connection, f"select * from {call}").buffers)


def measure_stock(corpus: Corpus, case: Case, truth: Truth, iterative: str) -> Outcome:
    """What plain SQL over one table gives, whatever plan PostgreSQL takes."""
    order = f"s.embedding <=> {case.literal}"
    statement = f"select s.id from items as s {case.where} order by {order} limit {K}"
    with settings(corpus.connection, {"hnsw.iterative_scan": iterative}):
        cost = explained(corpus.connection, statement)
        return replace(run(corpus, statement, truth), buffers=cost.buffers)


def single_plans(corpus: Corpus, case: Case, truth: Truth) -> dict[str, Outcome]:
    """Plans that are fixed beforehand: exact search, and the index with every setting."""
    exact = Outcome(truth.expected, True, 1.0 if truth.expected else None)
    cost = explained(corpus.connection, exact_sql(case))
    found = {"exact": replace(exact, buffers=cost.buffers)}
    for mode in ("off", "relaxed_order", "strict_order") if case.conditions else ("off",):
        for ef in EFS:
            plan = SinglePlan(mode, ef)
            tried = try_plan(corpus, case, truth, plan)
            if not tried.filled and mode != "off":
                tried = try_plan(corpus, case, truth, replace(plan, scanned=100_000))
            found[str(plan)] = tried
    return found


def try_plan(corpus: Corpus, case: Case, truth: Truth, plan: SinglePlan) -> Outcome:
    """Rows and pages of a plan."""
    with settings(corpus.connection, plan.settings):
        cost = explained(corpus.connection, index_sql(case))
        if not cost.index:
            raise RuntimeError(f"the plan does not use the HNSW index: {index_sql(case)}")
        return replace(run(corpus, index_sql(case), truth), buffers=cost.buffers)


def exact_sql(case: Case) -> str:
    """Filter first, then compare all: "+ 0" is an order that no index gives."""
    return joined_sql(case, f"(d.embedding <=> {case.literal}) + 0")


def index_sql(case: Case) -> str:
    """In the order of the index, filtered as it goes."""
    return joined_sql(case, f"d.embedding <=> {case.literal}")


def joined_sql(case: Case, order: str) -> str:
    """Numbers of the nearest matching rows; no join where there is no predicate."""
    join = f"join arxiv as s on s.id = d.id {case.where}" if case.conditions else ""
    return f"select d.id from pgembed_data.arxiv as d {join} order by {order} limit {K}"


@contextmanager
def settings(connection: Connection, values: Mapping[str, str]) -> Iterator[None]:
    """Settings for a while, in a transaction of their own."""
    with connection.transaction():
        for name, value in values.items():
            connection.execute("select set_config(%s, %s, true)", (name, value))
        yield


def run(corpus: Corpus, statement: str, truth: Truth) -> Outcome:
    """The ids that a statement gives, judged, and how long that took here."""
    started = time.perf_counter()
    found = corpus.connection.execute(statement).fetchall()
    seconds = time.perf_counter() - started
    return outcome(truth, [corpus.ids[key] for (key,) in found], seconds)


def outcome(truth: Truth, numbers: Sequence[int], seconds: float) -> Outcome:
    """Judge the rows that were found."""
    filled = len(numbers) >= truth.expected
    return Outcome(len(numbers), filled, truth.recall(numbers), seconds=seconds)


def explained(connection: Connection, statement: str) -> Cost:
    """Run a statement and count the pages."""
    prefix = "explain (analyze, buffers, timing off, format json)"
    ((plans,),) = connection.execute(f"{prefix} {statement}").fetchall()
    top, planning = plans[0]["Plan"], plans[0].get("Planning", {})
    index = any("embedding" in node.get("Index Name", "") for node in nodes(top))
    pages = sum(
        part.get(f"Shared {kind} Blocks", 0) for part in (top, planning) for kind in ("Hit", "Read")
    )
    return Cost(pages, int(top["Actual Rows"]), index)


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A plan and all that is below it."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


# Figures


def figures_by_band(measured: Sequence[Measured]) -> Results:
    """Figures of each band, then of all."""
    bands: dict[str, list[Measured]] = {}
    for one in measured:
        bands.setdefault(one.case.band, []).append(one)
    bands = {band: with_best(held) for band, held in bands.items()}
    everything = [one for held in bands.values() for one in held]
    return {band: summary(held) for band, held in bands.items()} | {"overall": summary(everything)}


def with_best(held: Sequence[Measured]) -> list[Measured]:
    """The cases of a band with the best single plan of each, of those that keep the promise."""
    costly = [one for one in held if one.plans]
    keeping = [
        name
        for name in (costly[0].plans if costly else ())
        if all(one.plans[name].filled for one in costly)
        and mean_recall([one.plans[name] for one in costly]) >= PROMISED_RECALL
    ]
    return [
        replace(one, best_plan=min(keeping, key=lambda name, one=one: one.plans[name].buffers))
        if one.plans
        else one
        for one in held
    ]


def mean_recall(outcomes: Sequence[Outcome]) -> float:
    """Mean recall; 1 where nothing was to be found."""
    recalls = [found.recall for found in outcomes if found.recall is not None]
    return statistics.fmean(recalls) if recalls else 1.0


def summary(measured: Sequence[Measured]) -> dict[str, dict[str, Any]]:
    """Figures of a band, by way to search."""
    ways = dict.fromkeys(way for one in measured for way in one.outcomes)
    return {way: way_summary(measured, way) for way in ways}


def way_summary(measured: Sequence[Measured], way: str) -> dict[str, Any]:
    """Figures of one way to search."""
    held = [(one, one.outcomes[way]) for one in measured if way in one.outcomes]
    recalls = [found.recall for _, found in held if found.recall is not None]
    buffers = [found.buffers for _, found in held if found.buffers is not None]
    ratios = [
        found.buffers / one.best_buffers
        for one, found in held
        if found.buffers is not None and one.best_buffers
    ]
    hindsight = [
        found.buffers / one.least_buffers
        for one, found in held
        if found.buffers is not None and one.least_buffers
    ]
    times = [found.seconds / one.outcomes["ours"].seconds for one, found in held if one.case.costs]
    clocks = [1_000 * found.seconds for one, found in held if one.case.costs]
    figures = {
        "queries": len(held),
        "recall_at_10": rounded(recalls, statistics.fmean),
        "under_filled_queries": sum(not found.filled for _, found in held),
        "buffers_median": rounded(buffers, statistics.median),
        "buffers_vs_best_median": rounded(ratios, statistics.median),
        "buffers_vs_best_max": rounded(ratios, max),
        "buffers_vs_hindsight_median": rounded(hindsight, statistics.median),
        "milliseconds_median": rounded(clocks, statistics.median),
        "time_vs_ours_median": rounded(times, statistics.median),
    }
    if way != "ours":
        return figures
    best = Counter(one.best_plan for one, _ in held if one.best_plan)
    plans = Counter(found.plan for _, found in held)
    sampled = [found.recall for one, found in held if one.case.costs and found.recall is not None]
    figures["sampled_recall_at_10"] = rounded(sampled, statistics.fmean)
    return figures | {"plan_counts": dict(plans), "best_plan_counts": dict(best.most_common())}


def rounded(values: Sequence[float], figure: Callable[[Sequence[float]], float]) -> float | None:
    """A figure of values with four digits, None where there are no values."""
    return float(f"{figure(values):.4g}") if values else None


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


def show(found: Results) -> None:
    """Print a table: a line for each band and way to search, and how often each plan was taken."""
    table = Table("band", "way", *FIGURES.values(), "plans", "best", box=SIMPLE, pad_edge=False)
    for band, ways in found.items():
        for way, figures in ways.items():
            values = [figures[name] for name in FIGURES]
            cells = ["-" if value is None else f"{value:g}" for value in values]
            counts = [figures.get(name, {}) for name in ("plan_counts", "best_plan_counts")]
            plans = [", ".join(f"{name}: {n}" for name, n in count.items()) for count in counts]
            table.add_row(band if way == "ours" else "", way, *cells, *plans)
    Console(width=200).print(table)


def show_worst(measured: Sequence[Measured], count: int) -> None:
    """Print the cases that read most pages beyond the best single plan."""
    table = Table("band", "filter", "recall", "plan", "pages", "best", "pages", box=SIMPLE)
    costly = [one for one in measured if one.best_buffers is not None]
    for one in sorted(costly, key=lambda one: one.best_buffers - one.outcomes["ours"].buffers)[
        :count
    ]:
        ours = one.outcomes["ours"]
        cells = (one.case.filter, ours.recall, ours.plan, ours.buffers, one.best_plan)
        table.add_row(one.case.band, *map(str, cells), str(one.best_buffers))
    Console(width=200).print(table)


def main() -> None:
    """Measure, print, and write figures where a file is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--quick", action="store_true", help="fewer queries")
    parser.add_argument("--peers", action="store_true", help="measure other stores too")
    parser.add_argument("--worst", type=int, default=0, help="show so many of the dearest cases")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    require_shared()
    with server() as running:
        measured = measured_cases(
            running.url, rows=given.rows, quick=given.quick, peers=given.peers
        )
    found = figures_by_band(measured)
    show(found)
    if given.worst:
        show_worst(measured, given.worst)
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

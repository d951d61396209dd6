"""Hybrid search on the judged sets: BM25 beside bm25s, and fusions beside either arm.

``python -m benchmarks.search_fusion --quick`` prints tables of a few small sets.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from pgvector.psycopg import register_vector
from psycopg import sql
from psycopg.types.range import Range
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.data import (
    Document,
    JudgedSet,
    open_database,
    read_set,
    require_shared,
    sampled,
    server,
)
from benchmarks.vectors import embedded
from pgembed.bootstrap import paired_bootstrap
from pgembed.collections import create_collection
from pgembed.database import Connection
from pgembed.encoders import Encoder
from pgembed.fusion import DEFAULT, Fusion, performance
from pgembed.fusion_fitting import fit_fusion, judged_candidates
from pgembed.fusions import reset_fusion
from pgembed.judgments import (
    JudgedCollection,
    JudgedQueries,
    add_judgments,
    read_judged,
    seeded_share,
)
from pgembed.metrics import ideal_gain, ndcg_at_k, ndcg_of_scorings
from pgembed.model import Judgment, Vectors
from pgembed.registry import open_registered

QUICK = ("scifact", "nl2bash", "conala", "adi")
SETS = (
    *QUICK,
    "argkp",
    "clef_claims",
    "cosqa",
    "cuad_clauses",
    "debatepedia",
    "fin10k",
    "medquad",
    "nfcorpus_pre",
    "quora_small",
    "squad_sent",
    "subjqa",
    "wikiqa",
    "wikitq",
    "arxiv_200k",
)
ABSTRACTS_ONLY = ("arxiv_200k",)
"""Sets whose queries are the titles of the documents."""
INDEXED_FROM = 50_000
"""Documents from which comparing all of them takes too long for thousands of queries."""
DEV, TEST = 300, 500
QUICK_TEST = 80
"""Test queries of a set in a quick run."""
DATABASE = "pgembed_benchmark_fusion"

console = Console()

Row = dict[str, Any]


# Loading


def loaded(url: str, names: Sequence[str]) -> Connection:
    """A connection to the database with these sets; what is there already is kept."""
    try:
        connection = open_database(url, DATABASE, fresh=False)
    except Exception as error:  # an unreleased schema changes in place
        console.print(f"Loading again, since the schema does not upgrade: {error}")
        connection = open_database(url, DATABASE, fresh=True)
    for name in names:
        if not is_loaded(connection, name):
            load(connection, name)
    return connection


def is_loaded(connection: Connection, name: str) -> bool:
    """Whether the last step of loading a set was done."""
    done = "select from pgembed.judgment where collection = %s limit 1"
    return connection.execute(done, (name,)).fetchone() is not None


def load(connection: Connection, name: str) -> None:
    """Table, collection, vectors, BM25 weights and judgments of a set."""
    judged = read_set(name)
    documents = judged.documents
    vectors = embedded(name, [embedded_text(name, document) for document in documents])
    connection.execute(
        sql.SQL("drop table if exists {} cascade").format(sql.Identifier("pgembed_data", name))
    )
    connection.execute("delete from pgembed.collection where name = %s", (name,))
    table = sql.Identifier(name)
    connection.execute(sql.SQL("drop table if exists {} cascade").format(table))
    connection.execute(sql.SQL("create table {} (id text primary key, body text)").format(table))
    create_collection(connection, name, source=name, content=["body"], encoder="minilm")
    with connection.transaction():
        write_documents(connection, name, documents, vectors)
        connection.execute("delete from pgembed.stale where collection = %s", (name,))
    with console.status(f"BM25 weights of {name}"):
        connection.execute("select pgembed.refresh(%s)", (name,))
        if len(documents) > INDEXED_FROM:
            connection.execute("select pgembed.build_index(%s)", (name,))
    for place in (sql.Identifier(name), sql.Identifier("pgembed_data", name)):
        connection.execute(sql.SQL("vacuum (analyze) {}").format(place))
    add_judgments(connection, name, judgments_of(judged))


def embedded_text(name: str, document: Document) -> str:
    """What the dense arm knows of a document."""
    if name in ABSTRACTS_ONLY:
        return document.body[:240]
    return f"{document.title} {document.body}".strip()[:600]


def lexical_text(name: str, document: Document) -> str:
    """What BM25 knows of a document."""
    if name in ABSTRACTS_ONLY:
        return document.body
    return f"{document.title} {document.body}".strip()


def write_documents(
    connection: Connection, name: str, documents: Sequence[Document], vectors: Vectors
) -> None:
    """Fill the source and the side table as a bulk loader would."""
    register_vector(connection)
    cursor = connection.cursor()
    with cursor.copy(sql.SQL("copy {} from stdin").format(sql.Identifier(name))) as copy:
        for document in documents:
            copy.write_row((document.id, ""))
    statement = sql.SQL(
        "copy {} (id, chunk_no, content, span, content_hash, embedding) from stdin (format binary)"
    ).format(sql.Identifier("pgembed_data", name))
    with cursor.copy(statement) as copy:
        copy.set_types(["text", "int4", "text", "int4range", "bytea", "halfvec"])
        pairs = zip(documents, vectors, strict=True)
        for document, vector in track(pairs, name, total=len(documents), console=console):
            text = lexical_text(name, document)
            span, digest = Range(0, max(len(text), 1)), document.id.encode()
            copy.write_row((document.id, 0, text, span, digest, HalfVector(vector)))


def judgments_of(judged: JudgedSet) -> list[Judgment]:
    """At most so many dev and test queries; where there is only a test split, dev is cut of it."""
    if not any(judged.judgments.get(split) for split in ("train", "dev")):
        asked = judged.judgments["test"]
        dev = {text: grades for text, grades in asked.items() if seeded_share(text) < 0.2}
        rest = {text: grades for text, grades in asked.items() if text not in dev}
        judged = replace(judged, judgments={"dev": dev, "test": rest})
    found = sampled(judged, "{}", train=0, dev=DEV, test=TEST)
    # A key of one column is its text as it is; "sampled" writes ids as json.
    return [replace(one, key=json.loads(one.key)) for one in found]


# Words alone


def measure_lexical(connection: Connection, name: str = "scifact") -> Row:
    """nDCG@10 of the lexical arm through SQL, and of bm25s over the very same lexemes."""
    judged = read_judged(connection, name)
    queries = judged.split(name, "test")
    ours = searched(connection, judged, queries, lexical_weight=1.0, fusion="zscore")
    theirs = bm25s_scores(connection, judged, queries)
    return {
        f"{name}_ndcg10": percent(ours),
        "bm25s_ndcg10": percent(theirs),
        "queries": len(queries),
        "queries_that_differ": int((np.abs(ours - theirs) > 1e-9).sum()),
    }


def bm25s_scores(
    connection: Connection, judged: JudgedCollection, queries: JudgedQueries
) -> NDArray[np.float64]:
    """nDCG@10 of each query by bm25s as Lucene counts, with the same constants."""
    import bm25s

    words = dict(lexemes(connection, judged.name))
    index = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    index.index([words[key] for key in judged.keys], show_progress=False)
    values = np.zeros(len(queries))
    for row, (text, relevant) in enumerate(zip(queries.texts, queries.relevant, strict=True)):
        scores = index.get_scores(repeated(connection, text)).astype(np.float64)
        values[row] = ndcg_of_scorings(scores[None], relevant, ideal=ideal_gain(relevant))[0]
    return values


def lexemes(connection: Connection, name: str) -> Iterator[tuple[str, list[str]]]:
    """Words of each document as PostgreSQL has them, one that occurs twice twice."""
    table = sql.Identifier("pgembed_data", name)
    statement = sql.SQL(
        "select d.id, coalesce(array_agg(u.lexeme) filter (where u.lexeme is not null), '{{}}')"
        " from {} as d left join lateral (select w.lexeme from unnest(d.lexemes) as w,"
        " generate_series(1, cardinality(w.positions))) as u on true group by d.id"
    ).format(table)
    yield from connection.execute(statement)


def repeated(connection: Connection, text: str) -> list[str]:
    """Words of a query, the same way."""
    statement = (
        "select w.lexeme from unnest(to_tsvector('english', %s)) as w,"
        " generate_series(1, cardinality(w.positions))"
    )
    return [word for (word,) in connection.execute(statement, (text,))]


# Fusion


LABEL_FREE = {
    "dense": Fusion("zscore", 0.0),
    "lexical": Fusion("zscore", 1.0),
    "rrf": Fusion("rrf", 0.5),
    "zscore": Fusion("zscore", 0.3),
    "minmax": Fusion("minmax", 0.3),
}
SYSTEMS = (*LABEL_FREE, "fitted")
ARMS = ("dense", "lexical")

Scores = dict[str, NDArray[np.float64]]
"""nDCG@10 of each test query, by system."""


def measure_set(
    connection: Connection, name: str, encoder: Encoder, at_most: int = TEST
) -> tuple[Row, Scores]:
    """Fit on dev, measure on test: label-free ways from the candidates, the fit through SQL."""
    reset_fusion(connection, name)
    started = time.perf_counter()
    fitted = fit_fusion(connection, name, mode="base", encoder=encoder)
    seconds = time.perf_counter() - started
    judged = read_judged(connection, name, encoder=encoder)
    queries = some(judged.split(name, "test"), at_most)
    judged = replace(judged, queries={(name, "test"): queries})
    _, candidates = judged_candidates(connection, judged, "base", "test")
    values = performance(candidates, list(LABEL_FREE.values()))
    scores: Scores = dict(zip(LABEL_FREE, values.T, strict=True))
    scores["fitted"] = searched(connection, judged, queries)
    serving = Fusion(fitted.kind, fitted.lexical_weight) if fitted.installed else DEFAULT  # type: ignore[arg-type]
    twin = performance(candidates, [serving])[:, 0]
    best = max(ARMS, key=lambda arm: float(scores[arm].mean()))
    row = {
        "documents": len(judged.keys),
        "dev_queries": fitted.queries,
        "test_queries": len(queries),
        **{system: percent(scores[system]) for system in SYSTEMS},
        "fusion": f"{serving.kind} {serving.lexical_weight:.2f}",
        "installed": fitted.installed,
        "reason": fitted.reason,
        "best_arm": best,
        "fitted_over_best_arm": points(scores[best], scores["fitted"]),
        "fit_seconds": round(seconds, 1),
        "queries_that_differ_from_the_twin": int((np.abs(twin - scores["fitted"]) > 1e-9).sum()),
    }
    return row, scores


def some(queries: JudgedQueries, at_most: int) -> JudgedQueries:
    """The first ones by a seeded hash of their text."""
    order = sorted(range(len(queries)), key=lambda row: seeded_share(queries.texts[row], seed=1))
    return queries.take(sorted(order[:at_most]))


def searched(
    connection: Connection, judged: JudgedCollection, queries: JudgedQueries, **options: Any
) -> NDArray[np.float64]:
    """nDCG@10 of each query by hybrid search through SQL, fused as the collection has it."""
    numbers = {key: number for number, key in enumerate(judged.keys)}
    statement = (
        "select key from pgembed.search(%s, pgembed.as_vector(%b::real[]), 10, hybrid => true,"
        " query_text => %s, lexical_weight => %s, fusion => %s) order by rank"
    )
    given = (options.get("lexical_weight"), options.get("fusion"))
    values = np.zeros(len(queries))
    for row, (text, vector) in enumerate(zip(queries.texts, queries.vectors, strict=True)):
        found = connection.execute(statement, (judged.name, vector.tolist(), text, *given))
        relevant = queries.relevant[row]
        grades = [relevant.get(numbers[key], 0) for (key,) in found]
        values[row] = ndcg_at_k(grades or [0], list(relevant.values()))
    return values


def summed(rows: Mapping[str, Row], scores: Mapping[str, Scores]) -> Row:
    """Means over sets, and what the fit gains over reciprocal ranks and over the best arm."""
    strata = np.concatenate(
        [np.full(len(found["rrf"]), n) for n, found in enumerate(scores.values())]
    )

    def joined(system: str) -> NDArray[np.float64]:
        return np.concatenate(
            [found[system or rows[name]["best_arm"]] for name, found in scores.items()]
        )

    macro = {f"macro_{name}": mean(row[name] for row in rows.values()) for name in SYSTEMS}
    below = {
        name: row["fitted_over_best_arm"]
        for name, row in rows.items()
        if row["fitted_over_best_arm"]["mean"] < 0
    }
    return {
        **macro,
        "macro_best_arm": mean(max(row[arm] for arm in ARMS) for row in rows.values()),
        "fitted_over_rrf": points(joined("rrf"), joined("fitted"), strata),
        "fitted_over_zscore": points(joined("zscore"), joined("fitted"), strata),
        "fitted_over_best_arm": points(joined(""), joined("fitted"), strata),
        "sets_below_best_arm": list(below),
        "below_best_arm": below,
        "sets_surely_below_best_arm": [n for n, gain in below.items() if gain["high"] < 0],
    }


def points(
    one: NDArray[np.float64],
    other: NDArray[np.float64],
    strata: NDArray[np.generic] | None = None,
) -> dict[str, float]:
    """Mean of other - one in points of nDCG@10, with its 95 % paired bootstrap interval."""
    interval = paired_bootstrap(one, other, strata=strata)
    return {key: round(100 * getattr(interval, key), 2) for key in ("mean", "low", "high")}


def percent(values: NDArray[np.float64]) -> float:
    return round(100 * float(values.mean()), 2)


def mean(values: Iterable[float]) -> float:
    return round(statistics.fmean(values), 2)


def measure(url: str, *, quick: bool = False, names: Sequence[str] = ()) -> dict[str, Row]:
    """``lexical``: our BM25 and bm25s on SciFact; ``fusion``: means over sets, and each set.

    Args:
        url: of a server; the sets are loaded into a database of its own there, and kept.
        quick: a few small sets only.
        names: other sets.
    """
    names = names or (QUICK if quick else SETS)
    with loaded(url, names) as connection:
        encoder = open_registered(connection, "minilm")
        rows: dict[str, Row] = {}
        scores: dict[str, Scores] = {}
        for name in track(names, "Fusion by set", console=console):
            rows[name], scores[name] = measure_set(
                connection, name, encoder, QUICK_TEST if quick else TEST
            )
        lexical = measure_lexical(connection) if "scifact" in names else {}
    return {"lexical": lexical, "fusion": {**summed(rows, scores), "sets": rows}}


def show(found: Mapping[str, Row]) -> None:
    """Print both parts as tables."""
    fusion = found["fusion"]
    table = Table("set", "dev", *SYSTEMS, "- best arm", "fusion", box=SIMPLE, pad_edge=False)
    for name, row in fusion["sets"].items():
        gain = row["fitted_over_best_arm"]
        table.add_row(
            name,
            str(row["dev_queries"]),
            *[f"{row[system]:.1f}" for system in SYSTEMS],
            f"{gain['mean']:+.2f} [{gain['low']:+.2f}, {gain['high']:+.2f}]",
            row["fusion"] + ("" if row["installed"] else " (default)"),
        )
    means = [f"{fusion[f'macro_{system}']:.2f}" for system in SYSTEMS]
    gain = fusion["fitted_over_best_arm"]
    over = f"{gain['mean']:+.2f} [{gain['low']:+.2f}, {gain['high']:+.2f}]"
    table.add_row("macro", "", *means, over, f"best arm {fusion['macro_best_arm']:.2f}")
    wide = Console(width=160)
    wide.print(table)
    wide.print({name: value for name, value in fusion.items() if name != "sets"})
    wide.print(found["lexical"])


def main() -> None:
    """Measure, print, and write figures where a file is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few small sets")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    require_shared()
    with server() as running:
        found = measure(running.url, quick=given.quick)
    show(found)
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

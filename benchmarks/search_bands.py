"""Filtered search by selectivity: recall, filled results and pages read, beside single plans.

``python -m benchmarks.search_bands --rows 20000 --quick`` prints a table of the bands.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from rich.progress import track

from benchmarks.data import require_shared, server
from benchmarks.search_bands_data import (
    DATABASE,
    FULL,
    QUICK,
    Case,
    Corpus,
    K,
    Truth,
    console,
    exact_truth,
    index_source,
    loaded,
    quoted,
    read_corpus,
    real_cases,
    synthetic_cases,
    vector_text,
)
from benchmarks.search_bands_figures import (
    Measured,
    Outcome,
    Results,
    figures_by_band,
    show,
    show_worst,
)
from pgembed.database import Connection

EFS = (40, 100, 200, 400)
STOCK = {"pgvector": "off", "pgvector strict": "strict_order", "pgvector relaxed": "relaxed_order"}
"""Peers in plain SQL on one table, by the planner's own choice: kinds of iterative scan."""

PEERS = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"
"""Where langchain-postgres and LlamaIndex are: they pin an older pgvector."""

Found = dict[str, Any]
"""Ids, seconds and buffers of a peer's search."""


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

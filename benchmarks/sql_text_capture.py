"""What the triggers of a collection cost who writes: CPU of the backend, and WAL.

The same write goes to a plain table and to one that a collection watches, in turns; ratios are
medians over the rounds. Each round has fresh tables. A checkpoint before it, and none during it,
keeps full-page images out of the figures, but for the few pages of our own tables.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import sql

from benchmarks.sql_text_worker import fresh_database, register_stub
from pgembed.database import Connection, connect, rows_of

ROWS, QUICK_ROWS = 100_000, 20_000
ROUNDS, QUICK_ROUNDS = 7, 5
TABLES = ("plain", "watched")

FILL: LiteralString = (
    "select n, 'title ' || n, repeat('body text ', 20), 2000 from generate_series(1, {rows}) as n"
)
STATEMENTS: dict[str, LiteralString] = {
    "insert": "insert into {table} " + FILL,
    "noop": "update {table} set year = year + 1",
    "update": "update {table} set body = body || ' more'",
}
"""In this order; the no-op updates a column that is no content."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one write."""

    cpu: float
    """Nanoseconds of the backend."""
    wal: float
    """Bytes."""
    noted: int
    """Keys that the triggers wrote."""


def measure(url: str, *, quick: bool) -> dict[str, Any]:
    """The ratio of CPU and the bytes of WAL more a row, for each kind of write."""
    rows, rounds = (QUICK_ROWS, QUICK_ROUNDS) if quick else (ROWS, ROUNDS)
    costs: dict[str, dict[str, list[Cost]]] = defaultdict(lambda: defaultdict(list))
    with connect(fresh_database(url, "bench_capture")) as connection:
        register_stub(connection)
        for number in range(rounds):
            make_tables(connection)
            for table in TABLES if number % 2 else TABLES[::-1]:
                for kind, cost in writes(connection, table, rows).items():
                    costs[kind][table].append(cost)
    for kind, by_table in costs.items():
        check(kind, by_table, rows)
    found = {kind: compared(by_table, rows) for kind, by_table in costs.items()}
    return {
        "change_capture_cpu_ratio": max(each["cpu_ratio"] for each in found.values()),
        "change_capture_rows": rows,
        "change_capture": found,
    }


def make_tables(connection: Connection) -> None:
    """Two empty tables, one of them watched."""
    if rows_of(connection, "select from pgembed.collection"):
        connection.execute("select pgembed.drop_collection('watched')")
    connection.execute("checkpoint")
    for table in map(sql.Identifier, TABLES):
        connection.execute(sql.SQL("drop table if exists {} cascade").format(table))
        connection.execute(
            sql.SQL(
                "create table {} (id bigint primary key, title text, body text, year int)"
            ).format(table)
        )
    connection.execute(
        "select pgembed.create_collection('watched', source => 'watched',"
        " content => '{title,body}', encoder => 'stub')"
    )


def writes(connection: Connection, table: str, rows: int) -> dict[str, Cost]:
    """Each kind of write once, on one table."""
    names = {"table": sql.Identifier(table), "rows": sql.Literal(rows)}
    found = {}
    for kind, statement in STATEMENTS.items():
        composed = sql.SQL(statement).format(**names)
        found[kind] = cost_of(connection, lambda s=composed: connection.execute(s))
    connection.execute(sql.SQL("delete from {table}").format(**names))
    connection.execute(sql.SQL("vacuum {table}").format(**names))
    lines = copied(rows)
    found["copy"] = cost_of(connection, lambda: copy_in(connection, table, lines))
    return found


def copied(rows: int) -> bytes:
    """The same rows as COPY wants them."""
    body = "body text " * 20
    return "".join(f"{n}\ttitle {n}\t{body}\t2000\n" for n in range(1, rows + 1)).encode()


def copy_in(connection: Connection, table: str, lines: bytes) -> None:
    """One COPY."""
    statement = sql.SQL("copy {} from stdin").format(sql.Identifier(table))
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(lines)


def cost_of(connection: Connection, write: Callable[[], object]) -> Cost:
    """What a write takes, in a transaction of its own."""
    pid = connection.info.backend_pid
    ((lsn,),) = rows_of(connection, "select pg_current_wal_insert_lsn()::text")
    before = backend_nanoseconds(pid)
    write()
    cpu = backend_nanoseconds(pid) - before
    ((wal,),) = rows_of(
        connection, "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s::pg_lsn)", (lsn,)
    )
    ((noted,),) = rows_of(connection, "select coalesce(sum(row_count), 0) from pgembed.change")
    connection.execute("delete from pgembed.change")
    return Cost(cpu, float(wal), int(noted))


def backend_nanoseconds(pid: int) -> int:
    """CPU time of a server process so far (Linux)."""
    with open(f"/proc/{pid}/schedstat") as stat:
        return int(stat.read().split()[0])


def check(kind: str, by_table: dict[str, list[Cost]], rows: int) -> None:
    """Triggers note every changed row once, and no other."""
    due = 0 if kind == "noop" else rows
    assert {cost.noted for cost in by_table["watched"]} == {due}, (kind, by_table)
    assert {cost.noted for cost in by_table["plain"]} == {0}, (kind, by_table)


def compared(by_table: dict[str, list[Cost]], rows: int) -> dict[str, Any]:
    """Medians over the rounds, each round compared by itself."""
    pairs = list(zip(by_table["plain"], by_table["watched"], strict=True))
    ratios = [watched.cpu / plain.cpu for plain, watched in pairs]
    return {
        "cpu_ratio": statistics.median(ratios),
        "cpu_ratio_min": min(ratios),
        "cpu_ratio_max": max(ratios),
        "wal_bytes_per_row": statistics.median((w.wal - p.wal) / rows for p, w in pairs),
        "plain_cpu_us_per_row": statistics.median(p.cpu for p, _ in pairs) / 1e3 / rows,
        "plain_wal_bytes_per_row": statistics.median(p.wal for p, _ in pairs) / rows,
        "keys_noted": pairs[0][1].noted,
    }


def report(result: dict[str, Any]) -> list[str]:
    """As a table."""
    if "change_capture" not in result:
        return []
    lines = [
        "## What a collection costs the writers of its table",
        "",
        f"{result['change_capture_rows']:,} rows in one statement; medians, with and without the"
        " triggers in turns. No-op: an update of a column that is no content.",
        "",
        "| write | CPU of the backend | from | to | WAL bytes more a row | keys noted |",
        "|---" * 6 + "|",
    ]
    for kind, found in result["change_capture"].items():
        lines.append(
            f"| {kind} | {found['cpu_ratio']:.2f}x | {found['cpu_ratio_min']:.2f}"
            f" | {found['cpu_ratio_max']:.2f} | {found['wal_bytes_per_row']:.1f}"
            f" | {found['keys_noted']:,} |"
        )
    return [*lines, ""]

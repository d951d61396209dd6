"""The command ``demo``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import typer
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from rich.progress import Progress, TaskID

from pgembed.cli.common import console, errors, progress_bar
from pgembed.cli.evaluate import print_systems
from pgembed.database import Connection, connect
from pgembed.demo.pipeline import POSTGRES, PYTHON, DemoResult, run_demo
from pgembed.demo.plain_sql import STATEMENT, worker
from pgembed.demo.plain_sql import search as search_in_sql
from pgembed.searching import explain

DATABASE = "pgembed_demo"
"""Of its own, so that the demo's experts and router never answer the user's queries."""

SEARCHES: tuple[tuple[str, str, dict[str, object] | None], ...] = (
    (PYTHON, "run a command and capture what it prints", {"kind": ["function", "class"]}),
    (POSTGRES, "how much disk space does a table take", {"kind": "function"}),
    (POSTGRES, "turn an array into rows", {"returns_set": True}),
)

NEXT = sql.SQL("""\
  -- a query text, once a worker runs (in another shell: pgembed worker)
  select name, s.score
  from pgembed.search('postgres_doc', 'is a lock held', filter => '{{"kind": "function"}}') as s
  join demo.postgres_doc as p on p.id = s.key::int order by s.rank;

  -- what resembles one entry, of functions only: filtered nearest neighbours
  select p.module, p.name, s.score
  from pgembed.search('python_doc',
    (select embedding::vector from pgembed_data.python_doc where id = {key} limit 1),
    k => 5, filter => '{{"kind": "function"}}') as s
  join demo.python_doc as p on p.id = s.key::int order by s.rank;

  -- a changed row is noted in the same transaction; the worker embeds it
  update demo.python_doc set content = content || ' (reviewed)' where id = {key};
  select name, stale, oldest from pgembed.collection_status();
""")

SHELL = """\
or from the shell:
  export PGEMBED_URL='{address}'
  pgembed worker &
  pgembed status; pgembed doctor
  pgembed search python_doc "parse command line arguments" --filter '{"kind": "class"}' --explain
  pgembed expert list; pgembed router show; pgembed server stop
"""


@dataclass(slots=True)
class Bars:
    """One progress bar a step, and a line when it is done."""

    bar: Progress
    task: TaskID

    def step(self, label: str) -> Callable[[int, int], None]:
        """Show what is at work."""
        self.bar.reset(self.task, description=label, total=None, completed=0)
        return lambda done, total: self.bar.update(self.task, completed=done, total=total)

    def done(self, label: str, seconds: float, outcome: str) -> None:
        """Keep one line of it."""
        _print_line(f"{seconds:6.1f} s  {label}: {outcome}")


def demo(
    url: Annotated[
        str | None,
        typer.Option(
            help="A database to do it in instead, without collections of your own: the demo"
            " installs its router for encoder minilm.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """See it all on text of this machine: Python's documentation and PostgreSQL's own catalog.

    Starts the embedded server, makes database pgembed_demo in it, installs the schema, embeds some
    thousand entries, trains three experts, builds the router, measures nDCG@10 on held-out queries
    and searches, in plain SQL too. Everything stays there to try things on; run it again to go on
    after Ctrl-C.
    """
    from pgembed.loopback import set_up_loopback
    from pgembed.schema import migrate

    started = time.perf_counter()
    with _database(url) as (address, how):
        migrate(address)
        set_up_loopback(address)
        seconds = time.perf_counter() - started
        console.print(f"{seconds:6.1f} s  Start: {how}; schema pgembed installed", highlight=False)
        with connect(address) as connection:
            with progress_bar("Start") as bar:
                result = run_demo(connection, Bars(bar, bar.task_ids[0]))
            _print_table(result)
            _print_searches(connection)
            with worker(address):
                _print_line(f"\nin plain SQL, from any client:\n\n{STATEMENT};\n")
                for name, score in search_in_sql(connection):
                    _print_line(f"  {score:.3f}  {name}")
            _print_next(connection, address)
    console.print(f"Done in {time.perf_counter() - started:.0f} s.", highlight=False)


@contextmanager
def _database(url: str | None) -> Iterator[tuple[str, str]]:
    if url:
        yield url, "the given database"
        return
    from pgembed.server import EmbeddedServer

    with EmbeddedServer(keep=True) as server:
        with connect(server.url) as connection:
            exists = "select from pg_catalog.pg_database where datname = %s"
            if connection.execute(exists, (DATABASE,)).fetchone() is None:
                statement = sql.SQL("create database {}").format(sql.Identifier(DATABASE))
                connection.execute(statement)
        parts = {**conninfo_to_dict(server.url), "dbname": DATABASE}
        address = "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**parts)
        yield address, "embedded PostgreSQL"


def _print_table(result: DemoResult) -> None:
    console.print()
    print_systems(result.systems, "test")
    for trained in result.experts:
        if not trained.decision.accepted:
            errors.print(
                f"Expert {trained.expert.name} did not help on dev, so it answers no query:"
                f" {trained.decision.reason}",
                markup=False,
            )
    soft = result.systems[-1].gain_over(result.systems[0])
    if soft.low <= 0:
        console.print(
            "Routing did not improve these test queries significantly over base.", style="yellow"
        )


def _print_searches(connection: Connection) -> None:
    for collection, query, conditions in SEARCHES:
        found = explain(connection, collection, query, k=3, filter=conditions)
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in found.route.weights.items())
        _print_line(f"\nsearch {collection}: {query!r}, filter {json.dumps(conditions)}")
        _print_line(f"  route: {weights}; {found.route.reason}; plan: {found.plan.plan}")
        for hit in found.hits:
            row = connection.execute(
                "select module || '.' || name from demo.python_doc where id = %s"
                if collection == PYTHON
                else "select name from demo.postgres_doc where id = %s",
                (int(hit.key),),
            ).fetchone()
            text = " ".join(hit.content.split())[:70]
            _print_line(f"  {hit.rank}. {hit.score:.3f}  {row[0] if row else hit.key}: {text}")


def _print_line(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _print_next(connection: Connection, address: str) -> None:
    row = connection.execute(
        "select id, name from demo.python_doc where module = 'shutil' order by id limit 1"
    ).fetchone()
    key = row[0] if row else 1
    shell = SHELL.replace("{address}", address)
    for text in (f"\nTry next, with any client of PostgreSQL at\n  {address}\n", _next(key), shell):
        _print_line(text)


def _next(key: int) -> str:
    return NEXT.format(key=sql.Literal(key)).as_string(None)

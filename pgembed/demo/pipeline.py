"""The demo from end to end: load, embed, train, route, evaluate, each step timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from pgembed.collections import create_collection, list_collections
from pgembed.database import Connection
from pgembed.demo.corpus_postgres import postgres_entries
from pgembed.demo.corpus_python import python_entries
from pgembed.demo.judgments import postgres_judgments, python_judgments
from pgembed.demo.loading import load_postgres, load_python
from pgembed.errors import GateError
from pgembed.evaluation import SystemScores, evaluate
from pgembed.judgments import JudgedCollection, add_judgments, read_judged
from pgembed.model import Judgment
from pgembed.registry import register_encoder
from pgembed.router import Router
from pgembed.router_building import build_router
from pgembed.routing import load_router
from pgembed.soft_fitting import GENERAL
from pgembed.syncing import sync
from pgembed.training import TrainedExpert, train_expert

PYTHON, POSTGRES = "python_doc", "postgres_doc"
"""The two collections, named after their tables in schema ``demo``."""


class Reporter(Protocol):
    """How the demo tells what it is at."""

    def step(self, label: str) -> Callable[[int, int], None]:
        """A step begins; returns what to call with work done and work known."""

    def done(self, label: str, seconds: float, outcome: str) -> None:
        """The step is over."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo found out."""

    experts: Sequence[TrainedExpert]
    systems: Sequence[SystemScores]
    """Base first, then each expert, then routed hard and soft: test nDCG@10 by domain."""


def run_demo(connection: Connection, reporter: Reporter) -> DemoResult:
    """Build the demo's two collections, train and route, and measure on the test queries.

    A second run finds most of it done: unchanged rows are not embedded again.

    Args:
        connection: in autocommit mode, to a migrated database; schema ``demo`` is made in it.
        reporter: told of each step.
    """
    register_encoder(connection, "minilm")
    _load(connection, reporter)
    for name in (PYTHON, POSTGRES):
        with _timed(reporter, f"Embed {name}") as (progress, outcome):
            report = sync(connection, name, on_progress=progress)
            outcome.append(f"{report.encoded} chunks encoded")
    with _timed(reporter, "Encode the judged queries") as (progress, outcome):
        judged = [
            read_judged(connection, name, on_progress=progress) for name in (PYTHON, POSTGRES)
        ]
        outcome.append(_counts(judged))
    experts = [_train(connection, reporter, name, judged) for name in ("python", "postgres")]
    experts.append(_train(connection, reporter, GENERAL, judged))
    with _timed(reporter, "Build the router") as (_, outcome):
        try:
            built = build_router(connection, judged)
            outcome.append(f"{len(built.pilots)} pilot embeddings")
        except GateError as error:
            outcome.append(str(error))
    router = load_router(connection, "minilm")
    systems = list(_measure(connection, reporter, judged, router))
    return DemoResult(experts, systems)


def _load(connection: Connection, reporter: Reporter) -> None:
    with _timed(reporter, "Read Python's standard library") as (_, outcome):
        python = python_entries()
        load_python(connection, python)
        outcome.append(f"{len(python)} entries into demo.{PYTHON}")
    with _timed(reporter, "Read PostgreSQL's catalog") as (_, outcome):
        postgres = postgres_entries(connection)
        load_postgres(connection, postgres)
        outcome.append(f"{len(postgres)} entries into demo.{POSTGRES}")
    judgments: dict[str, list[Judgment]] = {
        PYTHON: python_judgments(python),
        POSTGRES: postgres_judgments(postgres),
    }
    existing = {each.name for each in list_collections(connection)}
    for name, found in judgments.items():
        if name not in existing:
            create_collection(
                connection, name, source=f"demo.{name}", content=["content"], encoder="minilm"
            )
        connection.execute("delete from pgembed.judgment where collection = %s", (name,))
        add_judgments(connection, name, found)


def _train(
    connection: Connection, reporter: Reporter, name: str, judged: Sequence[JudgedCollection]
) -> TrainedExpert:
    with _timed(reporter, f"Train expert {name}") as (progress, outcome):
        trained = train_expert(
            connection,
            name,
            judged,
            domain=None if name == GENERAL else name,
            on_step=lambda step: progress(step.step, step.steps),
        )
        outcome.append(f"{trained.expert.state}: {trained.decision.reason}")
    return trained


def _measure(
    connection: Connection,
    reporter: Reporter,
    judged: Sequence[JudgedCollection],
    router: Router,
) -> Iterator[SystemScores]:
    total = sum(len(each.split(domain, "test")) for each in judged for domain in each.domains)
    for mode in ("base", *sorted(router.experts), "hard", "soft"):
        with _timed(reporter, f"Search the test queries ({mode})") as (progress, outcome):
            done = 0

            def advance(count: int, report: Callable[[int, int], None] = progress) -> None:
                nonlocal done
                done += count
                report(done, total)

            scores = evaluate(connection, judged, router, mode, on_progress=advance)
            outcome.append(f"{total} searches")
        yield scores


@contextmanager
def _timed(
    reporter: Reporter, label: str
) -> Iterator[tuple[Callable[[int, int], None], list[str]]]:
    started = time.perf_counter()
    progress = reporter.step(label)
    outcome: list[str] = []
    yield progress, outcome
    reporter.done(label, time.perf_counter() - started, "; ".join(outcome))


def _counts(judged: Sequence[JudgedCollection]) -> str:
    return "; ".join(
        f"{domain}: "
        + ", ".join(
            f"{len(each.split(domain, split))} {split}" for split in ("train", "dev", "test")
        )
        for each in judged
        for domain in each.domains
    )

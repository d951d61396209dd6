"""The study's router in the database, and the same figures through the SQL that answers users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from psycopg import sql
from rich.console import Console

from benchmarks.routing_study.systems import LORA, System, World
from benchmarks.routing_study.verdicts import Scores
from pgembed.arm_router import NEIGHBOURS
from pgembed.bootstrap import Interval
from pgembed.database import Connection
from pgembed.evaluation import evaluate
from pgembed.experts import register_expert
from pgembed.judgments import JudgedCollection
from pgembed.model import Mode
from pgembed.registry import registered_encoder
from pgembed.router_fitting import BuiltRouter
from pgembed.router_settings import RouterSettings
from pgembed.router_store import install
from pgembed.routing import load_router
from pgembed.soft_fitting import SoftFit, SoftSetting

console = Console()


def install_and_evaluate(
    connection: Connection,
    judged: JudgedCollection,
    world: World,
    system: System,
    expected: Mapping[str, Scores],
    modes: Mapping[Mode, str],
) -> dict[str, Any]:
    """Register the experts of the first seed, install the router, and search in the database.

    What ``pgembed evaluate study`` prints afterwards. Searches are exact, as those in numpy are:
    the index is dropped.
    """
    encoder = registered_encoder(connection, judged.encoder)
    with connection.transaction():
        connection.execute("delete from pgembed.router")
        connection.execute("delete from pgembed.expert where name <> 'base'")
        for name, expert in world.arms.by_name.items():
            known = name.removesuffix(LORA)
            domain = known if known in world.size.domains else None
            register_expert(connection, encoder, name, expert, domain=domain)
        fit = SoftFit(system.router.parameters, (SoftSetting(system.router.parameters, {}, 0.0),))
        nothing = Interval(0.0, 0.0, 0.0, 1.0)
        built = BuiltRouter(0, system.router, fit, nothing, references=system.references)
        settings = RouterSettings(kind="utility", fallback=system.router.fallback is not None)
        install(connection, judged.encoder, settings, built, world.evidence)
    _drop_index(connection, judged.name)
    router = load_router(connection, judged.encoder)
    found: dict[str, Any] = {"neighbours": NEIGHBOURS}
    for mode, name in modes.items():
        console.print(f"Searching in the database, {mode} ...")
        scores = evaluate(connection, [judged], router, mode).by_domain
        there = expected[name]
        changed = {n: np.abs(scores[n] - there[n]) > 1e-6 for n in scores}
        found[mode] = {
            "macro": 100 * float(np.mean([scores[n].mean() for n in world.size.domains])),
            "macro_in_numpy": 100 * float(np.mean([there[n].mean() for n in world.size.domains])),
            "greatest_difference_of_a_set": float(
                max(abs(scores[n].mean() - there[n].mean()) for n in scores)
            ),
            "queries_that_differ": int(sum(each.sum() for each in changed.values())),
            "queries": int(sum(len(each) for each in changed.values())),
        }
    return found


def _drop_index(connection: Connection, collection: str) -> None:
    rows = connection.execute(
        "select indexname from pg_indexes"
        " where schemaname = 'pgembed_data' and tablename = %s and indexdef like '%%USING hnsw%%'",
        (collection,),
    ).fetchall()
    for (name,) in rows:
        connection.execute(sql.SQL("drop index {}").format(sql.Identifier("pgembed_data", name)))

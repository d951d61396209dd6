"""Routers as the database keeps them: written as a whole, or domain by domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from pgembed.database import Connection, rows_of, translated
from pgembed.errors import NotFoundError
from pgembed.heads import (
    LinearHead,
    NeighbourHead,
    PilotHead,
    Utility,
)
from pgembed.model import Vectors
from pgembed.router_fitting import BuiltRouter, Evidence, arm_gains
from pgembed.router_settings import RouterSettings


def installed_router(connection: Connection, encoder: str) -> tuple[str, Mapping[str, Any]]:
    """Kind and parameters of the encoder's router."""
    with translated():
        rows = rows_of(
            connection, "select kind, parameters from pgembed.router where encoder = %s", (encoder,)
        )
    if not rows:
        raise NotFoundError(
            f"encoder {encoder!r} has no router that an expert could be added to",
            hint="Build one: pgembed router build --collection NAME.",
        )
    return rows[0][0], rows[0][1]


def install(
    connection: Connection,
    encoder: str,
    settings: RouterSettings,
    built: BuiltRouter,
    evidence: Evidence,
) -> int:
    """Write a router, fitted by ``fit_router``, in place of the encoder's; returns its version."""
    head = built.router.head
    best = max(built.fit.table, key=lambda setting: setting.macro)
    gain = {"mean": built.gain.mean, "low": built.gain.low, "high": built.gain.high}
    metrics: dict[str, Any] = {
        "dev_ndcg_at_10": {"macro": best.macro, "by_domain": dict(best.ndcg)},
        "gain": gain,
    }
    if built.fallback is not None:
        found = built.fallback
        metrics["fallback"] = {
            "in_domain": [found.in_domain_without, found.in_domain],
            "left_out": [found.left_out_without, found.left_out],
            "left_out_base": found.left_out_base,
        }
    with translated(), connection.transaction():
        ((version,),) = rows_of(
            connection,
            "select pgembed.set_router(%s, %s, %s, %s)",
            (encoder, settings.kind, Jsonb(_parameters(settings, built)), Jsonb(metrics)),
        )
        if isinstance(head, PilotHead):
            write_pilots(connection, encoder, head)
        elif isinstance(head, LinearHead | NeighbourHead):
            write_utility(connection, encoder, evidence, head.utility)
        if isinstance(head, LinearHead):
            _write_domains(connection, encoder, head, evidence)
        write_references(connection, encoder, built.references)
    return int(version)


def forget_domains(connection: Connection, encoder: str, domains: Sequence[str]) -> None:
    """Delete what a router has of some domains."""
    for statement in (
        "delete from pgembed.pilot where encoder = %s and domain = any(%s)",
        "delete from pgembed.utility where encoder = %s and domain = any(%s)",
        "delete from pgembed.router_reference where encoder = %s and domain = any(%s)",
    ):
        connection.execute(statement, (encoder, list(domains)))


def _parameters(settings: RouterSettings, built: BuiltRouter) -> dict[str, Any]:
    parameters = built.router.parameters
    found: dict[str, Any] = {
        "temperature": parameters.temperature,
        "standing": {name: weight for name, weight in parameters.standing.items() if weight > 0},
    }
    if parameters.top is not None:
        found["top"] = parameters.top
    if parameters.minimum_share:
        found["minimum_share"] = parameters.minimum_share
    by_kind: Mapping[str, dict[str, Any]] = {
        "pilot": {
            "labels": settings.labels,
            "aggregate": settings.aggregate,
            "pilots": settings.pilots,
        },
        "knn": {"neighbours": settings.neighbours},
        "utility": {"posterior": settings.posterior, "neighbours": settings.neighbours},
        "fixed": {"weights": dict(settings.weights)},
    }
    found |= by_kind.get(settings.kind, {})
    fallback = built.router.fallback
    if fallback is not None:
        found["fallback"] = {
            "threshold": fallback.threshold,
            "width": fallback.width,
            "weights": dict(fallback.weights),
        }
    return found


def write_pilots(connection: Connection, encoder: str, head: PilotHead) -> None:
    """Insert pilots, or replace those of the same expert, domain and number."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into pgembed.pilot (encoder, expert, domain, n, centroid, number)"
            " values (%s, %s, %s, %s, pgembed.as_vector(%b::real[]), %s)"
            " on conflict (encoder, expert, domain, number)"
            " do update set n = excluded.n, centroid = excluded.centroid",
            [
                (encoder, p.expert, p.domain, p.n, p.centroid.tolist(), p.number)
                for p in head.pilots
            ],
        )


def _write_domains(
    connection: Connection, encoder: str, head: LinearHead, evidence: Evidence
) -> None:
    """Insert the linear function of each domain."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into pgembed.router_domain (encoder, domain, direction, bias, n)"
            " values (%s, %s, pgembed.as_vector(%b::real[]), %s, %s)",
            [
                (encoder, domain, direction.tolist(), float(bias), len(evidence.train[domain]))
                for domain, direction, bias in zip(
                    head.domains, head.directions, head.biases, strict=True
                )
            ],
        )


def write_utility(
    connection: Connection, encoder: str, evidence: Evidence, utility: Utility
) -> None:
    """Insert what each arm is worth in each domain, or replace it."""
    rows = [
        (encoder, each.problem.name, arm, gain, len(each.problem.relevant), share)
        for each in evidence.dev
        for arm, gain in arm_gains(each).items()
        for share in [utility.get(each.problem.name, {}).get(arm, 0.0)]
    ]
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into pgembed.utility (encoder, domain, expert, gain, n, share)"
            " values (%s, %s, %s, %s, %s, %s)"
            " on conflict (encoder, domain, expert)"
            " do update set gain = excluded.gain, n = excluded.n, share = excluded.share",
            rows,
        )


def write_references(
    connection: Connection, encoder: str, references: Mapping[str, Vectors]
) -> None:
    """Insert what queries are compared with, or replace what has the same number."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into pgembed.router_reference (encoder, domain, number, embedding)"
            " values (%s, %s, %s, pgembed.as_vector(%b::real[]))"
            " on conflict (encoder, domain, number) do update set embedding = excluded.embedding",
            [
                (encoder, domain, number, vector.tolist())
                for domain, vectors in references.items()
                for number, vector in enumerate(vectors)
            ],
        )

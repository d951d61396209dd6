"""The router of an encoder, loaded once and kept until the database has another version."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pgembed.arm_router import ArmRouter, Fallback, RouterParameters
from pgembed.database import Connection, rows_of, translated
from pgembed.experts import load_experts
from pgembed.heads import (
    BASE,
    ConstantHead,
    Head,
    LinearHead,
    NeighbourHead,
    Pilot,
    PilotHead,
    Utility,
)
from pgembed.model import Vectors
from pgembed.registry import registered_encoder
from pgembed.router import Router

KEPT_VERSIONS = 2
"""Of a database's router that a process keeps: transactions may see the one before the newest."""


_kept: dict[tuple[str, str], dict[str, Router]] = {}
"""By database and encoder, and by version."""


_lock = threading.Lock()


def load_router(connection: Connection, encoder: str) -> Router:
    """The router of an encoder as the database has it now; without one, base answers.

    Raises:
        NotFoundError: no such encoder.
        FingerprintError, InputError: an expert's artifact is not what it should be.
    """
    experts = load_experts(connection, encoder)
    spec = registered_encoder(connection, encoder)
    active = {BASE, *experts}
    with translated():
        stored = rows_of(
            connection, "select kind, parameters from pgembed.router where encoder = %s", (encoder,)
        )
        kind, parameters = stored[0] if stored else ("pilot", {})
        head = _head(connection, encoder, kind, parameters, active)
        fallback = _fallback(connection, encoder, parameters, active)
    policy = ArmRouter(head, _parameters(parameters, active), tuple(sorted(active)), fallback)
    return Router(policy, experts, spec)


def current_router(connection: Connection, encoder: str, version: str) -> Router:
    """The router of an encoder, loaded only when ``version`` is not one of those that are kept."""
    info = connection.info
    place = (f"{info.host}:{info.port}/{info.dbname}", encoder)
    with _lock:
        router = _kept.get(place, {}).get(version)
    if router is None:
        router = load_router(connection, encoder)
        with _lock:
            versions = _kept.setdefault(place, {})
            versions[version] = router
            for old in list(versions)[:-KEPT_VERSIONS]:
                del versions[old]
    return router


def _head(
    connection: Connection, encoder: str, kind: str, stored: Mapping[str, Any], active: set[str]
) -> Head:
    """What the rows of a router say of queries, retired experts left out."""
    if kind == "pilot":
        pilots = rows_of(
            connection,
            "select expert, domain, n, centroid::real[], number"
            " from pgembed.pilot where encoder = %s",
            (encoder,),
        )
        library = [
            Pilot(expert, domain, n, np.asarray(centroid, dtype=np.float32), number)
            for expert, domain, n, centroid, number in pilots
            if expert in active
        ]
        return PilotHead(library, stored.get("aggregate", "mean"))
    if kind == "uniform":
        return ConstantHead(dict.fromkeys(active, 1.0))
    if kind == "fixed":
        return ConstantHead({a: float(w) for a, w in stored["weights"].items() if a in active})
    utility = _utility(connection, encoder, active)
    posterior = stored.get("posterior", "lda") if kind == "utility" else kind
    if posterior == "knn":
        owners, references = _references(connection, encoder)
        return NeighbourHead(references, owners, utility, int(stored.get("neighbours", 10)))
    rows = rows_of(
        connection,
        "select domain, direction::real[], bias from pgembed.router_domain"
        ' where encoder = %s order by domain collate "C"',
        (encoder,),
    )
    return LinearHead(
        tuple(domain for domain, _, _ in rows),
        # Text that stands for a single is read as one: as a double it would be another number.
        np.asarray([direction for _, direction, _ in rows], dtype=np.float32).astype(np.float64),
        np.asarray([bias for _, _, bias in rows], dtype=np.float64),
        utility,
    )


def _utility(connection: Connection, encoder: str, active: set[str]) -> Utility:
    """Shares of the active arms by domain.

    Where those with a share are retired, the best of the others has the domain, if it is better
    than base: as if the retired had never been.
    """
    arms: dict[str, list[tuple[str, float, float]]] = defaultdict(list)
    rows = rows_of(
        connection,
        "select domain, expert, coalesce(gain, 0), share from pgembed.utility where encoder = %s",
        (encoder,),
    )
    for domain, expert, gain, share in rows:
        if expert in active:
            arms[domain].append((expert, gain, share))
    return {domain: _shares(listed) for domain, listed in arms.items()}


def _shares(arms: Sequence[tuple[str, float, float]]) -> Mapping[str, float]:
    shares = {expert: share for expert, _, share in arms if share > 0}
    best, gain, _ = min(arms, key=lambda arm: (-arm[1], arm[0]))
    return shares or ({best: 1.0} if gain > 0 else {})


def _references(connection: Connection, encoder: str) -> tuple[tuple[str, ...], Vectors]:
    rows = rows_of(
        connection,
        "select domain, embedding::real[] from pgembed.router_reference"
        ' where encoder = %s order by domain collate "C", number',
        (encoder,),
    )
    return tuple(d for d, _ in rows), np.asarray([v for _, v in rows], dtype=np.float32)


def _fallback(
    connection: Connection, encoder: str, stored: Mapping[str, Any], active: set[str]
) -> Fallback | None:
    given = stored.get("fallback")
    references = _references(connection, encoder)[1] if given else ()
    if not given or not len(references):
        return None
    weights = {arm: float(w) for arm, w in given["weights"].items() if arm in active and w > 0}
    total = sum(weights.values())
    return Fallback(
        float(given["threshold"]),
        float(given["width"]),
        np.asarray(references, dtype=np.float32),
        {arm: weight / total for arm, weight in weights.items()} or {BASE: 1.0},
    )


def _parameters(stored: Mapping[str, Any], active: set[str]) -> RouterParameters:
    """Stored parameters; the share of a standing expert that is retired goes to the others."""
    standing = stored.get("standing", {})
    kept = {name: float(weight) for name, weight in standing.items() if name in active}
    top, usual = stored.get("top"), RouterParameters()
    return RouterParameters(
        float(stored.get("temperature", usual.temperature)),
        kept,
        None if top is None else int(top),
        float(stored.get("minimum_share", usual.minimum_share)),
    )

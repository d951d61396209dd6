"""The router of an encoder, loaded once and kept until the database has another version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from pgembed.database import Connection, rows_of, translated
from pgembed.experts import load_experts
from pgembed.linear_expert import LinearExpert, LinearStack, apply_all, stack
from pgembed.model import Mode, Route, Vector, Vectors
from pgembed.pilot_router import BASE, Pilot, PilotRouter, RouterParameters, mix

KEPT_ROUTERS = 32
"""Routers that a process keeps: one for each database and encoder, old versions included."""


@dataclass(frozen=True, slots=True, eq=False)
class Router:
    """What turns the base embedding of a query into the vector that is searched with."""

    pilots: PilotRouter
    experts: Mapping[str, LinearExpert]
    stacked: LinearStack | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stacked", stack(self.experts) if self.experts else None)

    def route(self, z: Vector, mode: Mode = "soft") -> Route:
        """Which experts answer; the same as ``pgembed.route`` in SQL.

        Args:
            z: base query vector, float32, shape (dimensions,), unit length.
            mode: ``soft``, ``hard``, ``base``, or an expert's name.

        Raises:
            NotFoundError: there is no active expert of that name.
        """
        return self.pilots.route(z, mode)

    def query_vector(self, z: Vector, mode: Mode = "soft") -> tuple[Vector, Route]:
        """The vector to search with, unit(sum of w_e e(z)), and the route that led to it."""
        route = self.route(z, mode)
        if self.stacked is None or set(route.weights) == {BASE}:
            return z, route
        arms = apply_all(z, self.stacked)
        shares = np.asarray([route.weights.get(name, 0.0) for name in self.stacked.names])
        mixed = route.weights.get(BASE, 0.0) * z + shares @ arms
        return np.asarray(mixed / np.linalg.norm(mixed), dtype=np.float32), route

    def query_vectors(self, Z: Vectors, mode: Mode = "soft") -> Vectors:
        """The same for many queries: float32, shape (n, dimensions)."""
        vectors = {name: expert.apply(Z) for name, expert in self.experts.items()}
        return mix(Z, self.pilots.weights(Z, mode), vectors)


_kept: dict[tuple[str, str, str], Router] = {}


def load_router(connection: Connection, encoder: str) -> Router:
    """The router of an encoder as the database has it now; without one, base answers.

    Raises:
        NotFoundError: no such encoder.
        FingerprintError, InputError: an expert's artifact is not what it should be.
    """
    experts = load_experts(connection, encoder)
    with translated():
        stored = rows_of(
            connection, "select parameters from pgembed.router where encoder = %s", (encoder,)
        )
        pilots = rows_of(
            connection,
            "select expert, domain, n, centroid::real[] from pgembed.pilot where encoder = %s",
            (encoder,),
        )
    active = {BASE, *experts}
    parameters = _parameters(stored[0][0] if stored else {}, active)
    library = [
        Pilot(expert, domain, n, np.asarray(centroid, dtype=np.float32))
        for expert, domain, n, centroid in pilots
        if expert in active
    ]
    return Router(PilotRouter(library, parameters, others=tuple(sorted(active))), experts)


def current_router(connection: Connection, encoder: str, version: str) -> Router:
    """The router of an encoder, loaded only when ``version`` is not the one that is kept."""
    info = connection.info
    key = (f"{info.host}:{info.port}/{info.dbname}", encoder, version)
    if key not in _kept:
        if len(_kept) >= KEPT_ROUTERS:
            _kept.clear()
        _kept[key] = load_router(connection, encoder)
    return _kept[key]


def _parameters(stored: Mapping[str, object], active: set[str]) -> RouterParameters:
    """Stored parameters; the share of a standing expert that is retired goes to the others."""
    parameters = RouterParameters()
    standing = stored.get("standing", {})
    assert isinstance(standing, Mapping)
    kept = {name: float(weight) for name, weight in standing.items() if name in active}
    temperature = stored.get("temperature", parameters.temperature)
    assert isinstance(temperature, int | float)
    return replace(parameters, temperature=float(temperature), standing=kept)

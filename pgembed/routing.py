"""The router of an encoder, loaded once and kept until the database has another version."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pgembed.arm_router import ArmRouter, Fallback, RouterParameters, Weighting, mix
from pgembed.database import Connection, rows_of, translated
from pgembed.encoders import Encoder
from pgembed.encoders.bank import AdapterBank, States
from pgembed.errors import InputError
from pgembed.experts import AnyExpert, load_experts
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
from pgembed.linear_expert import LinearExpert, LinearStack, apply_all, stack
from pgembed.lora_expert import LoraExpert
from pgembed.model import EncoderSpec, Mode, Route, Vector, Vectors
from pgembed.registry import open_model, registered_encoder

KEPT_VERSIONS = 2
"""Of a database's router that a process keeps: transactions may see the one before the newest."""


@dataclass(frozen=True, slots=True, eq=False)
class Router:
    """What turns a query into the vector that is searched with."""

    policy: ArmRouter
    experts: Mapping[str, AnyExpert]
    spec: EncoderSpec | None = None
    """Of the encoder, to open it where LoRA experts need it; None where the caller has it."""
    stacked: LinearStack | None = field(init=False, repr=False)
    loras: Mapping[str, LoraExpert] = field(init=False, repr=False)
    _banks: list[AdapterBank] = field(init=False, repr=False, default_factory=list)
    """The router's own bank, once a LoRA expert was needed."""

    def __post_init__(self) -> None:
        linear = {n: e for n, e in self.experts.items() if isinstance(e, LinearExpert)}
        loras = {n: e for n, e in self.experts.items() if isinstance(e, LoraExpert)}
        object.__setattr__(self, "stacked", stack(linear) if linear else None)
        object.__setattr__(self, "loras", loras)

    def route(self, z: Vector, mode: Mode = "soft") -> Route:
        """Which experts answer; the same as ``pgembed.route`` in SQL.

        Args:
            z: base query vector, float32, shape (dimensions,), unit length.
            mode: ``soft``, ``hard``, ``base``, or an expert's name.

        Raises:
            NotFoundError: there is no active expert of that name.
        """
        return self.policy.route(z, mode)

    def weights(self, Z: Vectors, mode: Mode = "soft") -> Weighting:
        """Weight of each arm for many queries: arms, and a matrix (n, arms)."""
        return self.policy.weights(Z, mode)

    def encode(
        self,
        texts: Sequence[str],
        encoder: Encoder | None = None,
        modes: Iterable[Mode] = ("soft",),
    ) -> Vectors | States:
        """Base embeddings of queries, with what LoRA experts go on from where one may be needed.

        Args:
            texts: the queries.
            encoder: the open model; the registered one by default.
            modes: that the queries are routed in.

        Raises:
            InputError: a text is blank, or cannot be encoded.
        """
        if not self._needed(modes):
            return self._model(encoder).encode_query(texts)
        return self._bank(encoder).start(texts)

    def query_vector(self, z: Vector | States, mode: Mode = "soft") -> tuple[Vector, Route]:
        """The vector to search with, unit(sum of w_e e(z)), and the route that led to it.

        Args:
            z: base embedding of one query, or what ``encode`` returned for it.
            mode: as for ``route``.

        Raises:
            NotFoundError: there is no active expert of that name.
            InputError: a LoRA expert has weight, but only the base embedding is given.
        """
        base = z.base[0] if isinstance(z, States) else z
        route = self.route(base, mode)
        if set(route.weights) == {BASE}:
            return base, route
        mixed = route.weights.get(BASE, 0.0) * base.astype(np.float64)
        if self.stacked is not None:
            shares = np.asarray([route.weights.get(name, 0.0) for name in self.stacked.names])
            mixed = mixed + shares @ apply_all(base, self.stacked)
        asked = [name for name in self.loras if route.weights.get(name, 0.0) > 0]
        if asked:
            vectors = self._finish(_states(z), [0] * len(asked), asked)
            mixed = mixed + np.asarray([route.weights[name] for name in asked]) @ vectors
            route = replace(route, passes=1 + sum(map(self._bank().cost, asked)))
        return np.asarray(mixed / np.linalg.norm(mixed), dtype=np.float32), route

    def query_vectors(
        self, Z: Vectors, mode: Mode = "soft", texts: Sequence[str] | None = None
    ) -> Vectors:
        """The same for many queries: float32, shape (n, dimensions).

        Args:
            Z: their base embeddings.
            mode: as for ``route``.
            texts: as written; needed where LoRA experts have weight.
        """
        weights = self.weights(Z, mode)
        weighty = {arm for arm, share in zip(weights[0], weights[1].T, strict=True) if share.any()}
        return mix(Z, weights, self.arm_vectors(Z, texts, weighty))

    def arm_vectors(
        self, Z: Vectors, texts: Sequence[str] | None = None, arms: set[str] | None = None
    ) -> dict[str, Vectors]:
        """Query vectors of every arm, base included: float32, shape (n, dimensions) each.

        Args:
            Z: base embeddings of the queries.
            texts: the queries as written; needed for LoRA experts.
            arms: only these; all by default.

        Raises:
            InputError: a LoRA expert is asked for, but the texts are not given.
        """
        wanted = set(self.experts) if arms is None else arms & set(self.experts)
        found: dict[str, Vectors] = {BASE: Z}
        for name in sorted(wanted - set(self.loras)):
            expert = self.experts[name]
            assert isinstance(expert, LinearExpert)
            found[name] = expert.apply(Z)
        asked = sorted(wanted & set(self.loras))
        if asked and len(Z):
            if texts is None:
                raise _needs_texts(asked)
            states = self._bank().start(texts)
            rows = list(range(len(texts)))
            for name in asked:
                found[name] = self._finish(states, rows, [name] * len(rows))
        return found

    def _needed(self, modes: Iterable[Mode]) -> set[str]:
        """LoRA experts that may have weight in one of the modes."""
        asked = set(modes)
        arms = asked | (self.policy.arms if asked & {"soft", "hard"} else set())
        return arms & set(self.loras)

    def _model(self, encoder: Encoder | None) -> Encoder:
        if encoder is not None:
            return encoder
        if self.spec is None:
            raise InputError("the router does not know its encoder", hint="pass the open encoder")
        return open_model(self.spec)

    def _bank(self, encoder: Encoder | None = None) -> AdapterBank:
        """The experts that were needed so far, on the encoder's open model."""
        if not self._banks:
            self._banks.append(_open_bank(self._model(encoder)).sharing())
        return self._banks[0]

    def _finish(self, states: States, rows: Sequence[int], names: Sequence[str]) -> Vectors:
        """LoRA vectors of some queries; an expert is put into the bank when it is first needed."""
        bank = self._bank()
        for name in {*names} - {*bank.names}:
            bank.add(name, self.loras[name])
        return bank.finish(states, rows, names)


_kept: dict[tuple[str, str], dict[str, Router]] = {}
"""By database and encoder, and by version."""
_opened: dict[str, AdapterBank] = {}
"""Empty banks by the fingerprint of their model."""
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


def _open_bank(model: Encoder) -> AdapterBank:
    """The empty bank of a model whose graphs this process has open, once for all routers."""
    with _lock:
        fingerprint = model.spec.fingerprint
        if fingerprint not in _opened:
            _opened[fingerprint] = AdapterBank.open(model)
        return _opened[fingerprint]


def _states(z: Vector | States) -> States:
    if isinstance(z, States):
        return z
    raise _needs_texts([])


def _needs_texts(names: Sequence[str]) -> InputError:
    which = f" {', '.join(names)}" if names else ""
    return InputError(
        f"LoRA experts{which} work inside the encoder: the base embedding is not enough",
        hint="pass the query as text",
    )


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
        "select domain, embedding::real[] from pgembed.router_query"
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
    top = stored.get("top")
    temperature = float(stored.get("temperature", RouterParameters().temperature))
    return RouterParameters(temperature, kept, None if top is None else int(top))

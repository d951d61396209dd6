"""What turns a query into the vector that is searched with: weights, and every arm of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pgembed.arm_router import ArmRouter, Weighting, mix
from pgembed.encoders import Encoder
from pgembed.encoders.bank import AdapterBank, States
from pgembed.errors import InputError
from pgembed.experts import AnyExpert
from pgembed.heads import (
    BASE,
)
from pgembed.linear_expert import LinearExpert
from pgembed.lora_expert import LoraExpert
from pgembed.model import EncoderSpec, Mode, Route, Vector, Vectors
from pgembed.registry import open_model


@dataclass(frozen=True, slots=True, eq=False)
class Router:
    """What turns a query into the vector that is searched with."""

    policy: ArmRouter
    experts: Mapping[str, AnyExpert]
    spec: EncoderSpec | None = None
    """Of the encoder, to open it where LoRA experts need it; None where the caller has it."""
    linear: Mapping[str, LinearExpert] = field(init=False, repr=False)
    loras: Mapping[str, LoraExpert] = field(init=False, repr=False)
    _banks: list[AdapterBank] = field(init=False, repr=False, default_factory=list)
    """The router's own bank, once a LoRA expert was needed."""

    def __post_init__(self) -> None:
        linear = {n: e for n, e in self.experts.items() if isinstance(e, LinearExpert)}
        loras = {n: e for n, e in self.experts.items() if isinstance(e, LoraExpert)}
        object.__setattr__(self, "linear", linear)
        object.__setattr__(self, "loras", loras)

    def route(self, z: Vector, mode: Mode = "soft", *, explained: bool = True) -> Route:
        """Which experts answer; the same as ``pgembed.route`` in SQL.

        Args:
            z: base query vector, float32, shape (dimensions,), unit length.
            mode: ``soft``, ``hard``, ``base``, or an expert's name.
            explained: with scores and reason, which take time.

        Raises:
            NotFoundError: there is no active expert of that name.
        """
        return self.policy.route(z, mode, explained=explained)

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

    def query_vector(
        self, z: Vector | States, mode: Mode = "soft", *, explained: bool = True
    ) -> tuple[Vector, Route]:
        """The vector to search with, unit(sum of w_e e(z)), and the route that led to it.

        Args:
            z: base embedding of one query, or what ``encode`` returned for it.
            mode: as for ``route``.
            explained: as for ``route``.

        Raises:
            NotFoundError: there is no active expert of that name.
            InputError: a LoRA expert has weight, but only the base embedding is given.
        """
        base = z.base[0] if isinstance(z, States) else z
        route = self.route(base, mode, explained=explained)
        if set(route.weights) == {BASE}:
            return base, route
        mixed = route.weights.get(BASE, 0.0) * base.astype(np.float64)
        for name, weight in route.weights.items():
            if name in self.linear:
                mixed = mixed + weight * self.linear[name].apply(base).astype(np.float64)
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
            found[name] = self.linear[name].apply(Z)
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


_opened: dict[str, AdapterBank] = {}
"""Empty banks by the fingerprint of their model."""


_lock = threading.Lock()


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

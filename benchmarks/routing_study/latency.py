"""What routing costs: CPU of a query with and without it, in one run, and passes of the encoder."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.routing_study.systems import System, World
from pgembed.encoders import open_encoder
from pgembed.encoders.bank import AdapterBank
from pgembed.heads import BASE
from pgembed.lora_expert import LoraExpert
from pgembed.router import Router

ROUNDS = 7
QUERIES = 200


def measure_latency(world: World, system: System, texts: Sequence[str]) -> dict[str, object]:
    """Median over rounds of CPU and wall time a query, base and routed taking turns.

    Routed as the worker answers SQL: nobody reads why.
    """
    encoder = open_encoder("minilm", threads=1)
    experts = {name: made.expert for name, made in world.arms.made.items()}
    router = Router(system.router, experts, encoder.spec)
    queries = list(texts)
    bank = AdapterBank.open(encoder)
    lora = _lora(bank)
    bank.add("one", lora)
    passes = bank.passes

    def base() -> None:
        for text in queries:
            encoder.encode_query([text])

    def linear() -> None:
        for text in queries:
            router.query_vector(encoder.encode_query([text])[0], "soft", explained=False)

    def one_lora() -> None:
        for text in queries:
            states = bank.start([text])
            router.route(states.base[0], "soft", explained=False)
            bank.finish(states, [0], ["one"])

    # Threads that wait for each other in a product of one vector burn more than it takes.
    with threadpool_limits(limits=1):
        timed = _in_turns({"base": base, "linear": linear, "lora": one_lora})
    lora_passes = (bank.passes - passes) / (ROUNDS * len(queries))
    return {
        "queries": len(queries),
        "arms": len(world.arms.names),
        "expert_bytes": max(len(expert.to_bytes()) for expert in experts.values()),
        "lora_bytes": int(sum(w.nbytes for w in (*lora.A.values(), *lora.B.values()))),
        "passes": {BASE: 1.0, "linear": 1.0, "lora": round(lora_passes, 3)},
        **_figures(timed, len(queries)),
    }


Timed = dict[str, list[tuple[float, float]]]
"""CPU and wall seconds of each round, by what was run."""


def measure_routed(world: World, system: System, texts: Sequence[str]) -> dict[str, object]:
    """The same for one router over arms of both kinds, as queries are answered."""
    encoder = open_encoder("minilm", threads=1)
    router = Router(system.router, world.arms.by_name, encoder.spec)
    queries = list(texts)
    taken: list[float] = []

    def base() -> None:
        for text in queries:
            encoder.encode_query([text])

    def routed() -> None:
        for text in queries:
            encoded = router.encode([text], encoder)
            taken.append(router.query_vector(encoded, "soft", explained=False)[1].passes)

    with threadpool_limits(limits=1):
        timed = _in_turns({"base": base, "routed": routed})
    return {
        "arms": len(world.arms.names),
        "passes": round(statistics.mean(taken), 3),
        **_figures(timed, len(queries)),
    }


def _in_turns(runs: dict[str, Callable[[], None]]) -> Timed:
    timed: Timed = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            timed[name].append(_timed(run))
    return timed


def _figures(timed: Timed, queries: int) -> dict[str, object]:
    plain = [cpu for cpu, _ in timed["base"]]
    return {
        name: {
            "cpu_ms": round(1000 * statistics.median(cpu for cpu, _ in rounds) / queries, 3),
            "wall_ms": round(1000 * statistics.median(wall for _, wall in rounds) / queries, 3),
            "cpu_ratio": round(
                statistics.median(cpu / base for (cpu, _), base in zip(rounds, plain, strict=True)),
                3,
            ),
        }
        for name, rounds in timed.items()
    }


def _lora(bank: AdapterBank) -> LoraExpert:
    """An expert of rank 8 in the upper half; its numbers do not matter for the time."""
    generator = np.random.default_rng(0)
    A, B = {}, {}
    for slot, (width, out) in bank.manifest.slots.items():
        if int(slot.split(".")[2]) >= bank.manifest.split:
            A[slot] = generator.standard_normal((width, 8)).astype(np.float32) / np.float32(50)
            B[slot] = generator.standard_normal((8, out)).astype(np.float32) / np.float32(50)
    return LoraExpert(A, B, 32.0)


def _timed(run: Callable[[], None]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - wall

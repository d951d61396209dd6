"""Do online weights find the best expert of each domain from clicks, and follow a change of it?

    python -m benchmarks.feedback

writes benchmarks/results/feedback.json and feedback.png in a minute.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.data import RESULTS
from pgembed.feedback_simulation import (
    Fixed,
    Learner,
    MultiplicativeWeights,
    ThompsonSampling,
    World,
    simulate,
)

SEARCHES, SEEDS, HALF_LIFE = 24_000, 3, 1_500.0

DOMAINS, ARMS = ("claims", "clinic", "contracts"), ("base", "general", "expert", "other expert")

BEFORE = [[0.45, 0.55, 0.80, 0.30], [0.50, 0.60, 0.40, 0.75], [0.70, 0.62, 0.40, 0.45]]
AFTER = [[0.45, 0.75, 0.35, 0.30], [0.50, 0.60, 0.40, 0.75], [0.45, 0.62, 0.80, 0.45]]
"""Probability that an arm finds the answer, by domain: half way two of the three best change."""

LEARNERS: dict[str, Callable[[np.random.Generator], Learner]] = {
    "Thompson sampling": lambda generator: ThompsonSampling(
        len(DOMAINS), len(ARMS), half_life=HALF_LIFE, generator=generator
    ),
    "Thompson sampling that never forgets": lambda generator: ThompsonSampling(
        len(DOMAINS), len(ARMS), half_life=1e12, generator=generator
    ),
    "multiplicative weights": lambda generator: MultiplicativeWeights(
        len(DOMAINS), len(ARMS), half_life=HALF_LIFE
    ),
    "even mix": lambda generator: Fixed([1 / len(ARMS)] * len(ARMS)),
}


def main() -> None:
    started = time.perf_counter()
    world = World(np.array([BEFORE, AFTER]))
    best, figures = {}, {}
    for name in track(LEARNERS, description="Simulating"):
        runs = [simulate(world, LEARNERS[name], searches=SEARCHES, seed=s) for s in range(SEEDS)]
        best[name] = np.mean([run.best for run in runs], axis=0)
        figures[name] = {
            label: round(float(np.mean([run.share_of_best(*part) for run in runs])), 3)
            for label, part in PARTS.items()
        } | {"regret a search": round(float(np.mean([run.regret.mean() for run in runs])), 3)}
    result = {
        "searches": SEARCHES,
        "seeds": SEEDS,
        "half_life_searches": HALF_LIFE,
        "domains": DOMAINS,
        "arms": ARMS,
        "quality": {"before": BEFORE, "after": AFTER},
        "share_of_best": figures,
        "seconds": round(time.perf_counter() - started, 1),
    }
    (RESULTS / "feedback.json").write_text(json.dumps(result, indent=2) + "\n")
    plot(best)
    print(json.dumps(figures, indent=2))


PARTS = {
    "before the change, last quarter": (0.375, 0.5),
    "just after it": (0.5, 0.55),
    "after it, last quarter": (0.875, 1.0),
}


def plot(best: dict[str, NDArray[np.float64]]) -> None:
    import matplotlib.pyplot as plt

    window = 400
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for name, share in best.items():
        axes.plot(np.convolve(share, np.ones(window) / window, mode="valid"), label=name)
    axes.axvline(SEARCHES / 2, color="grey", linestyle=":", label="the best arms change")
    axes.set(
        xlabel="searches",
        ylabel="answered by the best arm of its domain",
        title=f"Learning from clicks ({SEEDS} runs, {len(DOMAINS)} domains, {len(ARMS)} arms)",
        ylim=(0, 1),
    )
    figure.legend(loc="outside lower center", ncols=2)
    figure.savefig(RESULTS / "feedback.png", dpi=110)


if __name__ == "__main__":
    main()

"""What should queries be compared with to tell whether they are of a judged domain?

``python -m benchmarks.routing_study.references`` prints and writes the area under the ROC curve
(judged dev queries against dev queries whose domain is left out, and against the test queries of
sets without an expert), and how many dev queries the neighbours give to their own domain.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from rich.console import Console
from sklearn.metrics import roc_auc_score

from benchmarks.data import RESULTS, require_shared, server
from benchmarks.routing_study.sets import FULL, open_study, read_study
from pgembed.heads import NeighbourHead
from pgembed.judgments import JudgedCollection
from pgembed.model import Vectors
from pgembed.pilots import references_of

console = Console(width=200)

NEAREST = (1, 3, 10)

WAYS: dict[str, Callable[[Vectors], Vectors]] = {
    "200 queries": lambda queries: queries[:200],
    "1,000 queries": lambda queries: queries[:1000],
    "all queries": lambda queries: queries,
    "200 centroids": references_of,
    "500 centroids": lambda queries: references_of(queries, 500),
}


def compare(judged: JudgedCollection) -> dict[str, Any]:
    """Each way with each number of neighbours."""
    train = {name: judged.split(name, "train").sample(FULL.train).vectors for name in FULL.domains}
    dev = {name: judged.split(name, "dev").vectors for name in FULL.domains}
    strangers = {name: judged.split(name, "test").vectors for name in FULL.without_expert}
    found = {}
    for way, choose in WAYS.items():
        references = {name: choose(queries) for name, queries in train.items()}
        for nearest in NEAREST:
            row = _row(references, dev, strangers, nearest)
            found[f"{way}, nearest {nearest}"] = row
            console.print(f"{way}, nearest {nearest}: {row}")
    return found


def _row(
    references: Mapping[str, Vectors],
    dev: Mapping[str, Vectors],
    strangers: Mapping[str, Vectors],
    nearest: int,
) -> dict[str, float]:
    everything = np.concatenate(list(references.values()))
    known = np.concatenate([_similarity(everything, Z, nearest) for Z in dev.values()])
    left_out = []
    for name, Z in dev.items():
        others = [vectors for other, vectors in references.items() if other != name]
        left_out.append(_similarity(np.concatenate(others), Z, nearest))
    row = {"left out": _area(known, np.concatenate(left_out))}
    row |= {n: _area(known, _similarity(everything, Z, nearest)) for n, Z in strangers.items()}
    owners = tuple(name for name, vectors in references.items() for _ in range(len(vectors)))
    head = NeighbourHead(everything, owners, {}, nearest)
    chosen = {n: head.probabilities(Z, 0.05).argmax(axis=1) for n, Z in dev.items()}
    right = [np.mean([head.domains[c] == name for c in each]) for name, each in chosen.items()]
    return row | {"own domain": round(float(np.mean(right)), 3)}


def _similarity(references: Vectors, Z: Vectors, nearest: int) -> Any:
    return np.partition(Z @ references.T, -nearest, axis=1)[:, -nearest:].mean(axis=1)


def _area(inside: Any, outside: Any) -> float:
    labels = np.concatenate([np.ones(len(inside)), np.zeros(len(outside))])
    return round(float(roc_auc_score(labels, np.concatenate([inside, outside]))), 3)


def main() -> None:
    """Compare, and write the result."""
    require_shared()
    with server() as running:
        judged = read_study(open_study(running.url, FULL, fresh=False))
    found = compare(judged)
    (RESULTS / "references.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

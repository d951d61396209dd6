"""Fit the fusion of a collection's arms to its judged queries, and install it if it is no worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from psycopg.types.json import Jsonb

from pgembed.bootstrap import Interval, paired_bootstrap
from pgembed.database import Connection, rows_of, translated
from pgembed.encoders import Encoder
from pgembed.errors import InputError, TrainingError
from pgembed.fusion import (
    FOLDS,
    Candidates,
    Fusion,
    FusionFit,
    JudgedCandidates,
    fit_fusion_weights,
)
from pgembed.judgments import (
    SPLITS,
    JudgedCollection,
    JudgedQueries,
    Progress,
    read_judged,
    seeded_share,
)
from pgembed.metrics import ideal_gain
from pgembed.model import Mode, Vector
from pgembed.routing import load_router

FEWEST_FOR_AN_ARM = 50
"""Below this a refused fit says too little against fusing at all."""

FEWEST_QUERIES = 20
"""Below this a fit is luck: on a fifth of so few queries either arm may look better."""


@dataclass(frozen=True, slots=True)
class FittedFusion:
    """A fusion that was fitted, with nDCG@10 on the queries of the split, and what became of it."""

    collection: str
    kind: str
    lexical_weight: float
    queries: int
    dense: float
    """The dense arm alone."""
    lexical: float
    """The lexical arm alone."""
    zscore: float
    """Z-scores with the weight that needs no labels."""
    rrf: float
    """Reciprocal rank fusion."""
    fitted: float
    """The fit, cross-validated: each query under what was chosen without its fold."""
    gain: Interval
    """Of the fit, cross-validated, over the better arm."""
    installed: bool
    reason: str


def fit_fusion(
    connection: Connection,
    collection: str,
    *,
    mode: Mode = "soft",
    split: str = "dev",
    encoder: Encoder | None = None,
    on_progress: Progress | None = None,
    install: bool = True,
) -> FittedFusion:
    """Fit how a collection's hybrid searches fuse meaning and words, and install it.

    It is installed unless it is below the better arm in cross-validated nDCG@10; the reason is in
    the result. Then the better arm alone is installed, if 50 queries or more say that fusing
    without a fit is below it too; else what served before serves on.

    Args:
        connection: the caller's; nothing is committed here.
        collection: its name.
        mode: how searches route: ``soft``, ``hard``, ``base``, or an expert's name.
        split: of the judged queries to fit on; their nDCG is no test result afterwards.
        encoder: the collection's own, when it is open already.
        on_progress: called with the queries done and their number.
        install: False only measures.

    Raises:
        NotFoundError: no such collection or expert.
        InputError: there is no such split.
        TrainingError: the split has fewer than two judged queries.
    """
    if split not in SPLITS:
        raise InputError(f"split {split!r} is unknown", hint=f"Splits are {', '.join(SPLITS)}.")
    judged = read_judged(connection, collection, encoder=encoder)
    texts, found = judged_candidates(connection, judged, mode, split, on_progress)
    if len(found) < 2:
        raise TrainingError(
            f"collection {collection!r} has {len(found)} judged queries of split {split!r},"
            " too few to fit a fusion on",
            hint="Without judgments hybrid searches fuse z-scores, which need none.",
        )
    fit = fit_fusion_weights(found, folds_of(texts))
    gain = paired_bootstrap(fit.better_arm, fit.fitted)
    refusal = _refusal(fit, gain)
    arm = _arm_alone(fit) if refusal else None
    fusion = arm or fit.fusion
    reason = refusal or _praise(gain)
    if arm:
        reason += f"; so are plain z-scores: the {_name_of(arm)} arm alone is installed"
    result = FittedFusion(
        collection,
        fusion.kind,
        fusion.lexical_weight,
        len(found),
        **_figures(fit),
        gain=gain,
        installed=install and (arm is not None or refusal is None),
        reason=reason,
    )
    if result.installed:
        _install(connection, result, mode, split)
    return result


def _refusal(fit: FusionFit, gain: Interval) -> str | None:
    """Why a fit does not serve; None where it may."""
    if len(fit.fitted) < FEWEST_QUERIES:
        return (
            f"{len(fit.fitted)} judged queries are too few to trust a fit on:"
            f" {FEWEST_QUERIES} are needed"
        )
    if not fit.passes:
        return (
            "cross-validated, it is below the better arm alone by"
            f" {-gain.mean:.4f} nDCG@10 ({_interval(gain)})"
        )
    return None


def _arm_alone(fit: FusionFit) -> Fusion | None:
    """The better arm, where fusing without a fit would be below it too; None with few queries."""
    if len(fit.fitted) < FEWEST_FOR_AN_ARM or fit.zscore.mean() >= fit.better_arm.mean():
        return None
    return Fusion("zscore", float(fit.better_arm is fit.lexical))


def _name_of(arm: Fusion) -> str:
    return "lexical" if arm.lexical_weight else "dense"


def _praise(gain: Interval) -> str:
    return f"{gain.mean:+.4f} nDCG@10 beside the better arm alone ({_interval(gain)})"


def _interval(gain: Interval) -> str:
    return f"95 % interval {gain.low:+.4f} to {gain.high:+.4f}"


def _figures(fit: FusionFit) -> dict[str, float]:
    names = ("dense", "lexical", "zscore", "rrf", "fitted")
    return {name: float(getattr(fit, name).mean()) for name in names}


def _install(connection: Connection, fitted: FittedFusion, mode: Mode, split: str) -> None:
    provenance = {
        "queries": fitted.queries,
        "mode": mode,
        "split": split,
        "folds": FOLDS,
        "fitted_on": datetime.now(UTC).date().isoformat(),
        "ndcg_at_10": {
            name: round(getattr(fitted, name), 5)
            for name in ("fitted", "dense", "lexical", "zscore", "rrf")
        },
        "gain_over_better_arm": asdict(fitted.gain),
    }
    with translated():
        connection.execute(
            "select pgembed.set_fusion(%s, %s, %s, %s)",
            (fitted.collection, fitted.kind, fitted.lexical_weight, Jsonb(provenance)),
        )


def folds_of(texts: Sequence[str]) -> NDArray[np.intp]:
    """Fold of each query: by rank of a seeded hash, so that folds are equally large."""
    folds = np.empty(len(texts), dtype=np.intp)
    folds[np.argsort([seeded_share(text, seed=2) for text in texts])] = (
        np.arange(len(texts)) % FOLDS
    )
    return folds


def judged_candidates(
    connection: Connection,
    judged: JudgedCollection,
    mode: Mode,
    split: str,
    on_progress: Progress | None = None,
) -> tuple[list[str], list[JudgedCandidates]]:
    """Texts of the judged queries of a split, and what both arms find for each.

    Args:
        connection: the caller's.
        judged: as ``read_judged`` gives it.
        mode: how queries are routed.
        split: ``train``, ``dev`` or ``test``.
        on_progress: called with the queries done and their number.
    """
    router = load_router(connection, judged.encoder)
    numbers = {key: number for number, key in enumerate(judged.keys)}
    parts = [judged.split(domain, split) for domain in judged.domains]
    total = sum(map(len, parts))
    texts: list[str] = []
    found: list[JudgedCandidates] = []
    for queries in filter(len, parts):
        vectors = router.query_vectors(queries.vectors, mode, queries.texts)
        for row, (text, vector) in enumerate(zip(queries.texts, vectors, strict=True)):
            candidates = _candidates(connection, judged.name, numbers, text, vector)
            texts.append(text)
            found.append(_judged(queries, row, *candidates))
            if on_progress:
                on_progress(len(found), total)
    return texts, found


def _judged(
    queries: JudgedQueries, row: int, documents: NDArray[np.intp], candidates: Candidates
) -> JudgedCandidates:
    relevant = queries.relevant[row]
    places = {
        place: relevant[int(document)]
        for place, document in enumerate(documents)
        if int(document) in relevant
    }
    return JudgedCandidates(candidates, places, ideal_gain(relevant))


def _candidates(
    connection: Connection,
    collection: str,
    numbers: Mapping[str, int],
    text: str,
    vector: Vector,
) -> tuple[NDArray[np.intp], Candidates]:
    with translated():
        rows = rows_of(
            connection,
            "select key, dense_score, lexical_score, dense_rank, lexical_rank"
            " from pgembed.candidates(%s, pgembed.as_vector(%b::real[]), %s)",
            (collection, vector.tolist(), text),
        )
    # A row that was embedded since the judgments were read has no number, and no judgment.
    known = [(numbers.get(key, len(numbers)), *scores) for key, *scores in rows]
    known.sort(key=lambda row: row[0])
    columns = np.asarray([[np.inf if v is None else v for v in row] for row in known], np.float64)
    columns = columns.reshape(-1, 5)
    return columns[:, 0].astype(np.intp), Candidates(*columns[:, 1:].T)

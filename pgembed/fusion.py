"""Fusion of a dense and a lexical arm: the database's formula, and its fit to judged queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pgembed.errors import TrainingError
from pgembed.metrics import ndcg_of_scorings

FusionKind = Literal["zscore", "minmax", "rrf"]

FIRST = 100
"""Best rank in either arm that a candidate has which the spread is measured on."""

RRF_K = 60
"""Of reciprocal rank fusion (Cormack, Clarke and Buettcher 2009)."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """A way to make one score of two."""

    kind: FusionKind
    lexical_weight: float
    """From 0, the dense arm alone, to 1, the lexical arm alone; reciprocal ranks have none."""


DEFAULT = Fusion("zscore", 0.3)
"""What serves where nothing was fitted."""

DENSE, LEXICAL, RANKS = Fusion("zscore", 0.0), Fusion("zscore", 1.0), Fusion("rrf", 0.5)
"""Either arm alone, and reciprocal rank fusion."""

WEIGHTS = tuple(step / 20 for step in range(21))

PROPOSALS = tuple(Fusion(kind, weight) for kind in ("zscore", "minmax") for weight in WEIGHTS)
"""What a fit chooses from: the pure arms are among them."""

FOLDS = 5

STEADINESS = 1e-3
"""Of the logistic stack: the ridge that keeps its coefficients finite where arms separate all."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """What both arms found for one query, in the order of keys that breaks ties: arrays of (n,)."""

    dense: NDArray[np.float64]
    lexical: NDArray[np.float64]
    dense_rank: NDArray[np.float64]
    """From 1; infinite where this arm did not find the row."""
    lexical_rank: NDArray[np.float64]

    @property
    def is_first(self) -> NDArray[np.bool_]:
        """Whether a candidate takes part in the spread."""
        return np.minimum(self.dense_rank, self.lexical_rank) <= FIRST


@dataclass(frozen=True, slots=True, eq=False)
class JudgedCandidates:
    """The candidates of a judged query."""

    candidates: Candidates
    relevant: Mapping[int, int]
    """Grades above 0 by place among the candidates; some may not be among them."""
    ideal: float
    """``ideal_gain`` of all that is relevant, found or not."""


@dataclass(frozen=True, slots=True, eq=False)
class FusionFit:
    """A fusion with nDCG@10 of each query, shape (n,), under it and under its rivals."""

    fusion: Fusion
    fitted: NDArray[np.float64]
    """Of what the same procedure chooses without the query's own fold."""
    dense: NDArray[np.float64]
    lexical: NDArray[np.float64]
    zscore: NDArray[np.float64]
    """Without labels: what serves where nothing is fitted."""
    rrf: NDArray[np.float64]

    @property
    def better_arm(self) -> NDArray[np.float64]:
        """Of the arm with the higher mean."""
        return self.dense if self.dense.mean() >= self.lexical.mean() else self.lexical

    @property
    def passes(self) -> bool:
        """Whether the fit, cross-validated, is not below the better arm."""
        return bool(self.fitted.mean() >= self.better_arm.mean())


def fused_scores(
    candidates: Candidates, kind: FusionKind, lexical_weights: ArrayLike
) -> NDArray[np.float64]:
    """Scores as ``pgembed.fused_score`` gives them.

    Args:
        candidates: of one query.
        kind: ``zscore``, ``minmax`` or ``rrf``, which has no weights.
        lexical_weights: shape (w,).

    Returns:
        float64, shape (w, n).
    """
    weights = np.asarray(lexical_weights, dtype=np.float64).reshape(-1, 1)
    if kind == "rrf":
        ranks = np.stack([candidates.dense_rank, candidates.lexical_rank])
        return np.broadcast_to((1 / (RRF_K + ranks)).sum(axis=0), (len(weights), ranks.shape[1]))
    dense = scaled(candidates.dense, candidates.is_first, kind)
    lexical = scaled(candidates.lexical, candidates.is_first, kind)
    fused: NDArray[np.float64] = (1 - weights) * dense + weights * lexical
    return fused


def scaled(
    scores: NDArray[np.float64], is_first: NDArray[np.bool_], kind: FusionKind
) -> NDArray[np.float64]:
    """Scores of one arm less their centre over their width; 0 where all are equal."""
    first = scores[is_first]
    if not first.size or np.ptp(first) == 0:
        return np.zeros_like(scores)
    low, width = (first.min(), np.ptp(first)) if kind == "minmax" else (first.mean(), first.std())
    between: NDArray[np.float64] = (scores - low) / width
    return between


def performance(
    judged: Sequence[JudgedCandidates], fusions: Sequence[Fusion]
) -> NDArray[np.float64]:
    """nDCG@10 of each query under each fusion: shape (n, fusions)."""
    values = np.empty((len(judged), len(fusions)))
    for row, one in enumerate(judged):
        scores = np.empty((len(fusions), len(one.candidates.dense)))
        for kind in dict.fromkeys(fusion.kind for fusion in fusions):
            places = [place for place, fusion in enumerate(fusions) if fusion.kind == kind]
            weights = [fusions[place].lexical_weight for place in places]
            scores[places] = fused_scores(one.candidates, kind, weights)
        values[row] = ndcg_of_scorings(scores, one.relevant, ideal=one.ideal)
    return values


def fit_fusion_weights(
    judged: Sequence[JudgedCandidates], folds: NDArray[np.intp] | None = None
) -> FusionFit:
    """Choose a fusion for judged queries, and say what that choice is worth on queries unseen.

    Args:
        judged: the queries.
        folds: fold of each query, shape (n,); by default they are dealt in turn.

    Raises:
        TrainingError: there are fewer than two queries, so that none can be held out.
    """
    if len(judged) < 2:
        raise TrainingError(
            f"a fusion needs at least 2 judged queries to fit on, not {len(judged)}"
        )
    folds = np.arange(len(judged)) % FOLDS if folds is None else folds
    values = performance(judged, PROPOSALS)
    fitted = np.empty(len(judged))
    for fold in np.unique(folds):
        held = folds == fold
        known = [one for one, out in zip(judged, held, strict=True) if not out]
        fitted[held] = values[held, _choice(known, values[~held])]
    rivals = performance(judged, (DENSE, LEXICAL, DEFAULT, RANKS))
    return FusionFit(PROPOSALS[_choice(judged, values)], fitted, *rivals.T)


def _choice(judged: Sequence[JudgedCandidates], values: NDArray[np.float64]) -> int:
    """Place of the proposal to take: of those about as good as the best, the stack's neighbour.

    The best of 42 on few queries is the best by luck; the stack sees every candidate, not only
    the first ten, and so is surer. The rule is that of one standard error (Breiman, Friedman,
    Olshen and Stone (1984), "Classification and regression trees", section 3.4.3).
    """
    means = values.mean(axis=0)
    behind = values[:, [int(means.argmax())]] - values
    error = behind.std(axis=0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.inf
    target = stacked_weight(judged)
    weights = np.asarray([proposal.lexical_weight for proposal in PROPOSALS])
    distance = np.where(behind.mean(axis=0) <= error + 1e-12, np.abs(weights - target), np.inf)
    # Rounded, so that of two kinds at one distance the first, z-scores, is taken.
    return int(distance.round(9).argmin())


def stacked_weight(judged: Sequence[JudgedCandidates]) -> float:
    """Lexical weight of a logistic stack on both arms' z-scores, as from weights not below 0.

    Generalised Funnelling (Moreo, Pedrotti and Sebastiani (2023), "Generalized funnelling"):
    the arms' scores are calibrated together on labels. Each query counts the same, whatever its
    number of candidates. Where neither arm tells relevant rows from others it is the default's.
    """
    found = [one for one in judged if one.relevant]
    if not found:
        return DEFAULT.lexical_weight
    rows = np.concatenate([_z_scores(one.candidates) for one in found])
    labels = np.concatenate([_labels(one) for one in found])
    counts = [len(one.candidates.dense) for one in found]
    shares = np.repeat([1 / count for count in counts], counts)
    dense, lexical = np.maximum(_logistic(rows, labels, shares), 0.0)
    total = dense + lexical
    return float(lexical / total) if total > 0 else DEFAULT.lexical_weight


def _z_scores(candidates: Candidates) -> NDArray[np.float64]:
    arms = (candidates.dense, candidates.lexical)
    return np.column_stack([scaled(scores, candidates.is_first, "zscore") for scores in arms])


def _labels(judged: JudgedCandidates) -> NDArray[np.float64]:
    labels = np.zeros(len(judged.candidates.dense))
    labels[list(judged.relevant)] = 1.0
    return labels


def _logistic(
    rows: NDArray[np.float64], labels: NDArray[np.float64], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Coefficients of both columns by Newton's method, beside an intercept that is left out."""
    X = np.column_stack([np.ones(len(rows)), rows])
    ridge = STEADINESS * np.asarray([1e-6, 1.0, 1.0])

    def loss(at: NDArray[np.float64]) -> float:
        margins = X @ at
        misfit = np.logaddexp(0, margins) - labels * margins
        return float(shares @ misfit + ridge @ at**2 / 2)

    coefficients = np.zeros(3)
    for _ in range(50):
        probability = 1 / (1 + np.exp(-np.clip(X @ coefficients, -30, 30)))
        gradient = X.T @ (shares * (probability - labels)) + ridge * coefficients
        curvature = (X * (shares * probability * (1 - probability))[:, None]).T @ X
        step = np.linalg.solve(curvature + np.diag(ridge), gradient)
        # Relevant rows are rare, and a whole step then often goes too far.
        while loss(coefficients - step) > loss(coefficients) and np.abs(step).max() > 1e-6:
            step = step / 2
        coefficients = coefficients - step
        if np.abs(step).max() <= 1e-6:
            break
    return coefficients[1:]

"""Linear heads fitted on which domain a training query is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pgembed.errors import PgembedError, TrainingError
from pgembed.heads import LinearHead, Utility
from pgembed.model import Vectors

Posterior = Literal["lda", "logistic", "knn"]
"""How domains are told apart."""

REGULARISATION = 10.0
"""scikit-learn's C: of the values compared on BEIR's query sets the one that routes best."""


def fit_linear_head(
    posterior: Literal["lda", "logistic"], domains: Mapping[str, Vectors], utility: Utility
) -> LinearHead:
    """Fit linear discriminant analysis or logistic regression on domain labels.

    ``lda`` has a covariance that all domains share, shrunk after Ledoit and Wolf (2004), and
    ``logistic`` an L2 penalty; to both every domain is equally likely beforehand.

    Args:
        posterior: which of the two.
        domains: base embeddings of each domain's training queries, float32 (n, dimensions).
        utility: shares of the arms in each domain.

    Raises:
        TrainingError: fewer than two domains, or one with fewer than two queries.
        PgembedError: scikit-learn is missing.
    """
    few = [name for name, Z in domains.items() if len(Z) < 2]
    if len(domains) < 2 or few:
        raise TrainingError(
            f"a router of kind {posterior} tells domains apart: it needs two of them, with two"
            f" training queries each, not { ({name: len(Z) for name, Z in domains.items()}) }"
        )
    names = tuple(sorted(domains))
    Z = np.concatenate([domains[name] for name in names]).astype(np.float64)
    labels = np.repeat(np.arange(len(names)), [len(domains[name]) for name in names])
    fitted = _classifier(posterior, len(names)).fit(Z, labels)
    directions, biases = np.asarray(fitted.coef_), np.asarray(fitted.intercept_)
    if len(names) == 2 and len(directions) == 1:
        # Of two classes scikit-learn keeps the difference.
        directions = np.concatenate([np.zeros_like(directions), directions])
        biases = np.concatenate([np.zeros_like(biases), biases])
    # What queries are told by is stored in single precision: so it is here.
    kept: NDArray[np.float64] = directions.astype(np.float32).astype(np.float64)
    return LinearHead(names, kept, biases.astype(np.float64), utility)


def _classifier(posterior: str, domains: int) -> Any:
    try:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise PgembedError(
            f"a router of kind {posterior} is fitted by scikit-learn, which is not installed",
            hint="pip install 'pgembed-router[router]'",
        ) from error
    if posterior == "lda":
        equal = np.full(domains, 1 / domains)
        return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=equal)
    return LogisticRegression(C=REGULARISATION, class_weight="balanced", max_iter=500)

"""What a router is built as: its kind, and the numbers of that kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pgembed.domain_heads import Posterior
from pgembed.errors import InputError
from pgembed.soft_fitting import (
    LOGIT_TEMPERATURES,
    TEMPERATURES,
)

Kind = Literal["pilot", "lda", "logistic", "knn", "utility", "fixed", "uniform"]


Labels = Literal["instance", "domain"]


KINDS: tuple[Kind, ...] = ("pilot", "lda", "logistic", "knn", "utility", "fixed", "uniform")


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """What is built.

    Raises:
        InputError: an unknown kind, or a number that is too small.
    """

    kind: Kind = "pilot"
    labels: Labels = "instance"
    """Of pilots. ``instance``, the paper: each training query votes for its best expert;
    ``domain``: the arm that is best on a domain's training queries gets all of them."""
    pilots: int = 1
    """Of each expert and domain: centroids by k-means where there are several."""
    aggregate: Literal["mean", "max"] = "mean"
    """Of an expert's pilots."""
    posterior: Posterior = "logistic"
    """How ``utility`` tells domains apart."""
    neighbours: int = 10
    """That vote in ``knn``."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Of ``fixed``."""
    fallback: bool = False
    """Let base answer queries that are unlike all judged ones."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(
                f"there is no router of kind {self.kind!r}", hint=f"Kinds are {', '.join(KINDS)}."
            )
        if min(self.pilots, self.neighbours) < 1:
            raise InputError(f"pilots and neighbours are at least 1, not as in {self}")
        if self.kind == "fixed" and not any(w > 0 for w in self.weights.values()):
            raise InputError("a router of kind fixed needs the weights of its experts")

    @property
    def tells_by(self) -> Kind:
        """How domains are told apart: the posterior of ``utility``, or the kind itself."""
        return self.posterior if self.kind == "utility" else self.kind

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Temperatures that are tried: scores of linear heads are logarithms."""
        if self.kind in ("fixed", "uniform"):
            return (1.0,)
        return LOGIT_TEMPERATURES if self.tells_by in ("lda", "logistic") else TEMPERATURES

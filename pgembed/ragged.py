"""Rows of unequal length in flat arrays, so that batches are gathered without loops."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Ragged:
    """Rows of unequal length, end to end."""

    values: Indices
    starts: Indices
    """Where each row starts in ``values``, and the end of the last one."""

    @classmethod
    def of(cls, rows: Iterable[Iterable[int]]) -> Ragged:
        """Lay rows end to end."""
        lists = [np.fromiter(row, dtype=np.intp) for row in rows]
        starts = np.concatenate(([0], np.cumsum([len(row) for row in lists], dtype=np.intp)))
        return cls(np.concatenate(lists), starts)

    def take(self, rows: Indices) -> tuple[Indices, Indices]:
        """Values of some rows, and for each value the position of its row in ``rows``."""
        owners, places = expand(self.starts[rows], self.starts[rows + 1])
        return owners, self.values[places]


def expand(starts: Indices, ends: Indices) -> tuple[Indices, Indices]:
    """Write out half-open ranges: the number of the range and each integer in it."""
    lengths = ends - starts
    owners = np.repeat(np.arange(len(starts)), lengths)
    firsts = np.cumsum(lengths) - lengths
    return owners, np.arange(lengths.sum()) - (firsts - starts)[owners]

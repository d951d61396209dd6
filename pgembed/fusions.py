"""How collections fuse the arms of a hybrid search now: list it, and go back to the default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pgembed.database import Connection, rows_of, translated
from pgembed.fusion import DEFAULT


@dataclass(frozen=True, slots=True)
class ServingFusion:
    """How hybrid searches of a collection fuse, where a search does not say otherwise."""

    collection: str
    kind: str
    lexical_weight: float
    fitted_at: datetime | None
    """None where nothing is installed."""
    metrics: Mapping[str, Any]
    """What it was fitted on, and what it reached there."""


def list_fusions(connection: Connection) -> list[ServingFusion]:
    """How each collection fuses, sorted by name; those without a fit by z-scores."""
    with translated():
        rows = rows_of(
            connection,
            "select c.name, coalesce(f.kind, %s), coalesce(f.lexical_weight, %s), f.fitted_at,"
            " coalesce(f.metrics, '{}') from pgembed.collection as c"
            " left join pgembed.fusion as f on f.collection = c.name order by c.name",
            (DEFAULT.kind, DEFAULT.lexical_weight),
            binary=True,
        )
    return [ServingFusion(*row) for row in rows]


def reset_fusion(connection: Connection, collection: str) -> None:
    """Go back to z-scores with the weight that needs no judgments.

    Raises:
        NotFoundError: no such collection.
    """
    with translated():
        connection.execute("select pgembed.set_fusion(%s, null)", (collection,))

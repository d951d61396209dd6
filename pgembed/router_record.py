"""A router as the database has it: what it was built from, and how it did on dev."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pgembed.database import Connection, rows_of, translated
from pgembed.registry import registered_encoder


@dataclass(frozen=True, slots=True)
class PilotRecord:
    """A pilot without its vector."""

    expert: str
    domain: str
    n: int
    """Queries behind it."""


@dataclass(frozen=True, slots=True)
class DomainRecord:
    """A domain that a router tells apart."""

    domain: str
    n: int
    """Training queries that its linear function was fitted on, or that vote for it."""


@dataclass(frozen=True, slots=True)
class UtilityRecord:
    """What an arm is worth in a domain."""

    domain: str
    expert: str
    share: float
    gain: float | None
    """Mean nDCG@10 above base of n dev queries."""
    n: int


@dataclass(frozen=True, slots=True)
class RouterRecord:
    """The router of an encoder, vectors left out."""

    encoder: str
    kind: str
    version: int
    built_at: datetime
    parameters: Mapping[str, Any]
    metrics: Mapping[str, Any]
    pilots: tuple[PilotRecord, ...]
    domains: tuple[DomainRecord, ...]
    utility: tuple[UtilityRecord, ...]
    references: int
    """Stored ones, which vote, or tell what is in domain."""


def router_record(connection: Connection, encoder: str) -> RouterRecord | None:
    """The router of an encoder; None where none is installed, so that base answers.

    Raises:
        NotFoundError: no such encoder.
    """
    registered_encoder(connection, encoder)
    with translated():
        found = rows_of(
            connection,
            "select kind, version, built_at, parameters, metrics from pgembed.router"
            " where encoder = %s",
            (encoder,),
            binary=True,
        )
        if not found:
            return None
        pilots = rows_of(
            connection,
            "select expert, domain, n from pgembed.pilot where encoder = %s"
            ' order by expert collate "C", domain collate "C", number',
            (encoder,),
        )
        fitted = rows_of(
            connection,
            "select domain, n from pgembed.router_domain where encoder = %s"
            ' order by domain collate "C"',
            (encoder,),
        )
        stored = rows_of(
            connection,
            "select domain, count(*) from pgembed.router_reference where encoder = %s"
            ' group by domain order by domain collate "C"',
            (encoder,),
        )
        utility = rows_of(
            connection,
            "select domain, expert, share, gain, n from pgembed.utility where encoder = %s"
            ' order by domain collate "C", share desc, gain desc nulls last, expert collate "C"',
            (encoder,),
        )
    # Neighbours vote where domains have no linear function, but utilities all the same.
    domains = fitted or (stored if utility else [])
    kind, version, built_at, parameters, metrics = found[0]
    return RouterRecord(
        encoder=encoder,
        kind=kind,
        version=version,
        built_at=built_at,
        parameters=parameters,
        metrics=metrics,
        pilots=tuple(PilotRecord(*row) for row in pilots),
        domains=tuple(DomainRecord(*row) for row in domains),
        utility=tuple(UtilityRecord(*row) for row in utility),
        references=sum(count for _, count in stored),
    )

"""A router as tables and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pgembed.cli.common import console, print_table, printable
from pgembed.router_record import RouterRecord

LISTED_APART = ("standing", "fallback", "weights")
"""Parameters that have a line of their own."""


def print_router(record: RouterRecord) -> None:
    """Print what a router knows, its parameters, and how it did on dev."""
    console.print(
        f"Router version {record.version} of encoder {record.encoder}: {record.kind},"
        f" built {record.built_at:%Y-%m-%d %H:%M}"
    )
    if record.pilots:
        rows = [(each.expert, each.domain, each.n) for each in record.pilots]
        print_table(("expert", "domain", "queries"), rows)
    if record.domains:
        rows_of_domains = [(each.domain, each.n) for each in record.domains]
        print_table(("domain", "queries or clusters"), rows_of_domains)
    if record.utility:
        worth = [(u.domain, u.expert, u.share, u.gain, u.n) for u in record.utility]
        print_table(("domain", "expert", "share", "gain", "dev queries"), worth)
    for line in (*_parameters(record), *_figures(record.metrics)):
        console.print(printable(line), highlight=False)


def _parameters(record: RouterRecord) -> Iterator[str]:
    plain = {n: v for n, v in record.parameters.items() if n not in LISTED_APART}
    if plain:
        yield f"Parameters: {', '.join(f'{name} {value}' for name, value in plain.items())}"
    if weights := record.parameters.get("weights"):
        yield f"Weights: {_weights(weights)}"
    yield f"Standing weights: {_weights(record.parameters.get('standing', {})) or 'none'}"
    if fallback := record.parameters.get("fallback"):
        yield (
            f"Fallback: {_weights(fallback['weights'])} below a similarity of"
            f" {fallback['threshold']:.3f} (width {fallback['width']:g}) to"
            f" {record.references} clusters of training queries"
        )


def _figures(metrics: Mapping[str, Any]) -> Iterator[str]:
    if gain := metrics.get("gain"):
        yield (
            f"Gain of soft routing over base on dev: {gain['mean']:+.4f} nDCG@10"
            f" (95 % interval {gain['low']:+.4f} to {gain['high']:+.4f})"
        )
    if found := metrics.get("dev_ndcg_at_10"):
        by_domain = ", ".join(f"{name} {value:.3f}" for name, value in found["by_domain"].items())
        yield f"nDCG@10 on dev: {found['macro']:.4f} ({by_domain})"
    if fallback := metrics.get("fallback"):
        inside, outside = fallback["in_domain"], fallback["left_out"]
        yield (
            f"The fallback changes dev nDCG@10 in domain from {inside[0]:.4f} to {inside[1]:.4f},"
            f" and where the domain is left out from {outside[0]:.4f} to {outside[1]:.4f}"
            f" (base alone {fallback['left_out_base']:.4f})"
        )


def _weights(weights: Mapping[str, float]) -> str:
    return ", ".join(f"{arm} {weight:g}" for arm, weight in weights.items())

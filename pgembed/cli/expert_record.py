"""The run record of an expert as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pgembed.cli.common import console, print_table, printable
from pgembed.model import Expert

PARTS = {
    "dev_ndcg_at_10": "learned",
    "elsewhere": "elsewhere",
    "general": "general",
}
"""Parts of the record that hold figures by domain, and what they are called."""

SHOWN = ("rank", "steps", "seed", "learning_rate", "negatives", "mined", "random", "margin")
"""Settings that a reader looks for first."""


def print_record(expert: Expert) -> None:
    """Print what is known of an expert, the gains by domain as a table."""
    metrics = expert.metrics
    console.print(
        f"Expert {expert.name} of encoder {expert.encoder}: {expert.kind}, {expert.state}"
    )
    if expert.domain is not None:
        console.print(f"Domain: {printable(expert.domain) or '(none)'}")
    if reason := metrics.get("gate", {}).get("reason"):
        console.print(f"Gate: {printable(reason)}")
    if rows := list(_figures(metrics)):
        print_table(("domain", "part", "base", "expert", "gain", "dev queries"), rows)
    for line in (_worse(metrics), _run(metrics), _settings(metrics), _negatives(metrics)):
        if line:
            console.print(line)


def _figures(metrics: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    for part, called in PARTS.items():
        for domain, found in metrics.get(part, {}).items():
            values = (found.get(each) for each in ("base", "expert", "gain", "queries"))
            yield domain or "all", called, *values


def _worse(metrics: Mapping[str, Any]) -> str:
    if "worse" not in metrics:
        return ""
    lost = ", ".join(f"{domain} {gain:+.3f}" for domain, gain in metrics["worse"].items())
    return f"Worse: {printable(lost) or 'nothing'}"


def _run(metrics: Mapping[str, Any]) -> str:
    if "steps" not in metrics:
        return ""
    run = metrics.get("run", {})
    versions = ", ".join(f"{name} {each}" for name, each in run.get("versions", {}).items())
    return (
        f"Training: step {metrics.get('best_step')} of {metrics['steps']} kept,"
        f" {metrics.get('seconds', 0):.0f} s; data {run.get('data', '')[:12]}; {versions}"
    )


def _settings(metrics: Mapping[str, Any]) -> str:
    settings = metrics.get("settings", {})
    shown = [f"{name} {settings[name]}" for name in SHOWN if name in settings]
    return f"Settings: {', '.join(shown)}" if shown else ""


def _negatives(metrics: Mapping[str, Any]) -> str:
    counts = metrics.get("run", {}).get("negatives", {}).values()
    if not counts:
        return ""
    mined, masked = (sum(each[name] for each in counts) for name in ("mined", "masked"))
    return f"Negatives: {mined} mined, {masked} of them masked as likely answers"

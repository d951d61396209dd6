"""The study's result as a page and as plots."""

from __future__ import annotations

from typing import Any


def report(result: dict[str, Any]) -> str:
    """Markdown."""
    return ""


def plots(result: dict[str, Any], name: str) -> None:
    """Plots."""

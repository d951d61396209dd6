"""Embed documents once, route each query to tiny experts, search in PostgreSQL with filters.

The names below are loaded when they are first used, so that ``import pgembed`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgembed.collections import create_collection, drop_collection, list_collections
    from pgembed.database import connect
    from pgembed.encoders import Encoder, open_encoder
    from pgembed.errors import PgembedError
    from pgembed.experts import list_experts, register_expert, retire_expert
    from pgembed.fusion_fitting import fit_fusion
    from pgembed.judgments import add_judgments, read_judged
    from pgembed.model import Expert, Hit, Judgment, Route, SyncReport
    from pgembed.registry import list_encoders, register_encoder
    from pgembed.router import Router
    from pgembed.router_building import build_router
    from pgembed.routing import load_router
    from pgembed.schema import migrate
    from pgembed.searching import Explanation, SearchOptions, explain, search
    from pgembed.syncing import sync
    from pgembed.training import train_expert

_HOMES = {
    "collections": ("create_collection", "drop_collection", "list_collections"),
    "database": ("connect",),
    "encoders": ("Encoder", "open_encoder"),
    "errors": ("PgembedError",),
    "experts": ("list_experts", "register_expert", "retire_expert"),
    "fusion_fitting": ("fit_fusion",),
    "judgments": ("add_judgments", "read_judged"),
    "model": ("Expert", "Hit", "Judgment", "Route", "SyncReport"),
    "registry": ("list_encoders", "register_encoder"),
    "router": ("Router",),
    "routing": ("load_router",),
    "schema": ("migrate",),
    "searching": ("Explanation", "SearchOptions", "explain", "search"),
    "syncing": ("sync",),
    "router_building": ("build_router",),
    "training": ("train_expert",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__version__ = "0.1.0"

__all__ = [
    "Encoder",
    "Expert",
    "Explanation",
    "Hit",
    "Judgment",
    "PgembedError",
    "Route",
    "Router",
    "SearchOptions",
    "SyncReport",
    "add_judgments",
    "build_router",
    "connect",
    "create_collection",
    "drop_collection",
    "explain",
    "fit_fusion",
    "list_collections",
    "list_encoders",
    "list_experts",
    "load_router",
    "migrate",
    "open_encoder",
    "read_judged",
    "register_encoder",
    "register_expert",
    "retire_expert",
    "search",
    "sync",
    "train_expert",
]


def __getattr__(name: str) -> object:
    """Load a public name from the module that holds it."""
    module = _HOME_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'pgembed' has no attribute {name!r}")
    value = getattr(import_module(f"pgembed.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

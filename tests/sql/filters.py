"""Filters by the handful, and their naive twin: what a filter means, row by row in Python."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

Row = Mapping[str, Any]
Truth = bool | None
"""SQL's three values: None is unknown."""

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda cell, value: cell == value,
    "ne": lambda cell, value: cell != value,
    "lt": lambda cell, value: cell < value,
    "lte": lambda cell, value: cell <= value,
    "gt": lambda cell, value: cell > value,
    "gte": lambda cell, value: cell >= value,
}

START = date(2020, 1, 1)

PAPERS: dict[str, st.SearchStrategy[Any]] = {
    "id": st.integers(-1, 62),
    "year": st.integers(1998, 2021),
    "topic": st.sampled_from(["a", "b", "c", "C", ""]),
    "active": st.booleans(),
    "price": st.decimals("0", "80", places=2, allow_nan=False),
    "added": st.integers(-1, 62).map(lambda days: START + timedelta(days=days)),
    "title": st.sampled_from(
        ["red apple number 6", "deep ocean number 4", "x'; drop table papers"]
    ),
}
"""Columns of ``papers`` and values to compare them with."""

POINTS: dict[str, st.SearchStrategy[Any]] = {
    "id": st.integers(-10, 4100),
    "cluster": st.integers(-1, 8),
    "parity": st.booleans(),
    "tag": st.sampled_from(["x", "y", "z", "?"]),
}
"""Columns of ``points`` and values to compare them with."""

TEXTS = ("topic", "title", "tag")
BOOLEANS = ("active", "parity")


def filters(columns: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Filters over these columns, nested up to a few levels; values as Python has them."""
    plain = st.one_of(*(_conditions(name, values) for name, values in columns.items()))
    flat = st.lists(plain, max_size=2).map(
        lambda items: {k: v for i in items for k, v in i.items()}
    )
    return st.recursive(
        flat,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(lambda items: {"and": items}),
            st.lists(inner, max_size=3).map(lambda items: {"or": items}),
            inner.map(lambda item: {"not": item}),
        ),
        max_leaves=6,
    )


def _conditions(name: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    several = st.lists(st.one_of(values, st.none()), max_size=4)
    order = ["eq", "ne"] if name in (*TEXTS, *BOOLEANS) else list(COMPARISONS)
    operators = [
        st.tuples(st.sampled_from(order), values),
        st.tuples(st.sampled_from(["eq", "ne"]), st.none()),
        st.tuples(st.sampled_from(["in", "nin"]), several),
        st.tuples(st.just("is_null"), st.booleans()),
    ]
    if name in TEXTS:
        patterns = st.sampled_from(["%", "red%", "%ocean%", "_", "%'%", "", "A"])
        operators.append(st.tuples(st.sampled_from(["like", "ilike"]), patterns))
    elif name not in BOOLEANS:
        operators.append(st.tuples(st.just("between"), st.lists(values, min_size=2, max_size=2)))
    condition = st.lists(st.one_of(*operators), max_size=2).map(dict)
    return st.one_of(values, st.none(), several, condition).map(lambda value: {name: value})


def matches(conditions: Mapping[str, Any], row: Row) -> bool:
    """Whether a filter finds a row."""
    return _truth(conditions, row) is True


def _truth(conditions: Mapping[str, Any], row: Row) -> Truth:
    return _all([_part(name, value, row) for name, value in conditions.items()])


def _part(name: str, value: Any, row: Row) -> Truth:
    if name == "and":
        return _all([_truth(item, row) for item in value])
    if name == "or":
        return _any([_truth(item, row) for item in value])
    if name == "not":
        return _not(_truth(value, row))
    if isinstance(value, Mapping):
        return _all([_operator(operator, row[name], item) for operator, item in value.items()])
    return _operator("in" if isinstance(value, list) else "eq", row[name], value)


def _operator(operator: str, cell: Any, value: Any) -> Truth:
    if operator == "is_null":
        return (cell is None) is value
    if operator in ("in", "nin"):
        return _member(cell, value) if operator == "in" else _not(_member(cell, value))
    if value is None:
        return (cell is None) is (operator == "eq")
    if cell is None:
        return None
    if operator == "between":
        return bool(value[0] <= cell <= value[1])
    if operator in ("like", "ilike"):
        pattern = value.replace("%", "*").replace("_", "?")
        fold = str.lower if operator == "ilike" else str
        return fnmatch.fnmatchcase(fold(cell), fold(pattern))
    return COMPARISONS[operator](cell, value)


def _member(cell: Any, values: list[Any]) -> Truth:
    if cell is None:
        return True if None in values else (None if values else False)
    return cell in values


def _all(parts: list[Truth]) -> Truth:
    return False if False in parts else (None if None in parts else True)


def _any(parts: list[Truth]) -> Truth:
    return True if True in parts else (None if None in parts else False)


def _not(truth: Truth) -> Truth:
    return None if truth is None else not truth


def as_json(value: Any) -> Any:
    """What a client sends: dates as text, decimals as numbers."""
    if isinstance(value, Mapping):
        return {name: as_json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [as_json(item) for item in value]
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, date) else value

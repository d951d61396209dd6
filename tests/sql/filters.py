"""Filters by the handful, and their naive twin: what a filter means, row by row in Python."""

from __future__ import annotations

import fnmatch
import json
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


Pair = tuple[dict[str, Any], str]
"""A filter, and the predicate that one would write for it in SQL."""

SHELF = """
create type mood as enum ('sad', 'calm', 'glad');
create domain positive as int check (value > 0);
create domain labels as text[];
create domain profile as jsonb;
create table shelf (
  id int primary key, tags text[], sizes int[], days date[], moods mood[], codes uuid[],
  prices numeric[], flags boolean[], docs jsonb[], words labels, extra jsonb, raw json,
  profile profile, "extra.title" text, added date, seen timestamptz, price numeric(8, 2),
  mood mood, code uuid, flag boolean, grade positive, span int4range
);
insert into shelf (id, extra) values
  (1, '{"author": {"name": "Ann", "age": 41}, "title": "inner", "n": 1, "open": true,
        "scores": [1, 2.5, "x"]}'),
  (2, '{"author": {"name": "bob", "age": 17.5}, "n": 1.0, "open": false, "scores": [2]}'),
  (3, '{"author": {"name": null}, "n": "1", "open": "true", "scores": {"0": 1}}'),
  (4, '{"author": "Ann", "n": true, "open": 1, "scores": "1"}'),
  (5, '{"author": [{"name": "Ann"}], "n": null, "scores": []}'),
  (6, '{}'), (7, '[]'), (8, '"Ann"'), (9, 'null'), (10, null),
  (11, '{"author": {"name": "100%_\\\\"}, "n": 1e3, "scores": [[1], [2.5]]}'),
  (12, '{"author": {"name": ["Ann"]}, "n": -7, "scores": [null, 1]}'),
  (13, '{"author": {"name": {"first": "Ann"}}, "n": {}, "scores": [{"name": "Ann"}]}'),
  (14, '[{"author": {"name": "Ann"}, "n": 1}]');
update shelf set raw = extra, profile = extra,
  "extra.title" = case id when 1 then 'outer' when 2 then 'inner' end;
update shelf as s set (tags, sizes, days, moods, codes, prices, flags, docs) = (
    r.tags::text[], r.sizes::int[], r.days::date[], r.moods::mood[], r.codes::uuid[],
    r.prices::numeric[], r.flags::boolean[], r.docs)
  from (values
    (1, '{a}', '{1}', '{2020-02-29}', '{sad}', '{00000000-0000-0000-0000-00000000000a}',
     '{3.50}', '{t}', array['1', '"a"', '{"a": 1}', '[1]']::jsonb[]),
    (2, '{a,b}', '{1,2}', '{2021-01-01,2020-02-29}', '{sad,glad}', '{}', '{3.5,0}', '{t,f}',
     array['1']::jsonb[]),
    (3, '{b,a}', '{2,1,1}', '{2021-01-01}', '{calm}', null, '{-1.25}', '{f}',
     array['{"a": 1}', '{"a": 1}']::jsonb[]),
    (4, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}'),
    (5, '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}',
     array[null]::jsonb[]),
    (6, '{a,NULL}', '{NULL,2}', '{infinity}', '{glad,NULL}', null, '{0,NULL}', '{NULL,t}',
     array['2', null]::jsonb[]),
    (7, '{"a b",x''y,"NULL",""}', '{3}', null, null, null, null, null, array['"b"']::jsonb[]),
    (8, '{"%s\\\\","{a,b}"}', '{{1,2},{3,1}}', null, null, null, null, null, null)
  ) as r (id, tags, sizes, days, moods, codes, prices, flags, docs)
  where r.id = s.id;
update shelf set words = tags;
update shelf as s set (added, seen, price, mood, code, flag, grade, span) = (
    r.added::date, r.seen::timestamptz, r.price::numeric, r.mood::mood, r.code::uuid,
    r.flag::boolean, r.grade::positive, r.span::int4range)
  from (values
    (1, '2020-02-29', '2024-05-01 12:00+02', '3.50', 'sad', '00000000-0000-0000-0000-00000000000a',
     't', '1', '[1,5)'),
    (2, '2021-01-01', '2024-05-01 10:00+00', '0', 'calm', '00000000-0000-0000-0000-00000000000b',
     'f', '2', 'empty'),
    (3, 'infinity', '1999-12-31', '-1.25', 'glad', null, null, '3', '(,3)'),
    (4, '1999-12-31', null, '999999.99', 'glad', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 't',
     null, '[1,)'),
    (5, null, 'infinity', null, null, null, 'f', '3', null)
  ) as r (id, added, seen, price, mood, code, flag, grade, span)
  where r.id = s.id;
insert into shelf (id, raw) values (91, '{"n": 1e999999, "open": true}'), (92, '{"n": "\\u0000"}');
"""
"""A table with a column of each kind: arrays, json of every shape, and types with input of their own."""

CODES = ["00000000-0000-0000-0000-00000000000a", "ffffffff-ffff-ffff-ffff-ffffffffffff"]

SCALARS: dict[str, tuple[str, list[Any]]] = {
    "added": ("date", ["2020-02-29", "2021-01-01", "infinity"]),
    "seen": ("timestamptz", ["2024-05-01T12:00:00+02:00", "2024-05-01 10:00:00Z", "2000-01-01"]),
    "price": ("numeric", [3.5, "3.50", 0, -1.25, 999999.99]),
    "mood": ("mood", ["sad", "calm", "glad"]),
    "code": ("uuid", [*CODES, CODES[1].upper()]),
    "flag": ("boolean", [True, False, "yes"]),
    "grade": ("positive", [1, 2, "3"]),
    "span": ("int4range", ["[1,5)", "[1,4]", "empty", "(,3)"]),
    "extra.title": ("text", ["outer", "inner", "Ann"]),
}
"""Columns of ``shelf`` with one value: type, and values to compare with."""

ARRAYS: dict[str, tuple[str, list[Any]]] = {
    "tags": ("text", ["a", "b", "a b", "x'y", "NULL", "", "%s\\", "{a,b}"]),
    "words": ("text", ["a", "b", "a b"]),
    "sizes": ("int", [1, 2, 3]),
    "days": ("date", ["2020-02-29", "2021-01-01", "infinity"]),
    "moods": ("mood", ["sad", "calm", "glad"]),
    "codes": ("uuid", CODES),
    "prices": ("numeric", [3.5, 0, -1.25]),
    "flags": ("boolean", [True, False]),
    "docs": ("jsonb", [1, "a", {"a": 1}, [1]]),
}
"""Array columns of ``shelf``: type of their elements, and elements to look for."""

DOCUMENTS = {
    "extra": "extra",
    "profile": "profile",
    "raw": "(case when id < 90 then raw end)::jsonb",
}
"""Json columns of ``shelf``; raw holds json that jsonb refuses, where id is 90 or more."""

PATHS = ["author", "author.name", "author.name.first", "author.age", "n", "open", "scores"]
PATHS += ["scores.0", "scores.1", "scores.-1", "scores.0.name", "author.0.name", "0", "0.n", "no.x"]

SCALAR_JSON: list[Any] = ["Ann", "bob", "1", "", "100%_\\", 1, 1.0, 2.5, -7, 1000, True, False]
ANY_JSON = [*SCALAR_JSON, None, {}, [], {"name": "Ann"}, {"first": "Ann"}, ["Ann"], [1], [[1]]]
PATTERNS = ["%", "A%", "%n", "100\\%\\_\\\\", "_", "", "%a%", "2020%"]

SYMBOLS = {"eq": "=", "ne": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}


def shelf_filters() -> st.SearchStrategy[Pair]:
    """Filters over ``shelf``, nested up to a few levels, each with its predicate by hand."""
    plain = st.one_of(_of_scalars(), _of_arrays(), _of_paths(), _of_documents())
    return st.recursive(
        plain,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(lambda pairs: _joined("and", pairs, "true")),
            st.lists(inner, max_size=3).map(lambda pairs: _joined("or", pairs, "false")),
            inner.map(lambda pair: ({"not": pair[0]}, f"(not {pair[1]})")),
        ),
        max_leaves=5,
    )


def _joined(word: str, pairs: list[Pair], empty: str) -> Pair:
    by_hand = f" {word} ".join(pair[1] for pair in pairs) or empty
    return {word: [pair[0] for pair in pairs]}, f"({by_hand})"


def _quoted(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return "'" + text.replace("'", "''") + "'"


def _as_jsonb(value: Any) -> str:
    return "'" + json.dumps(value).replace("'", "''") + "'::jsonb"


def _values(pool: list[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from([*pool, None]), max_size=4)


def _pair_of(pool: list[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(pool), min_size=2, max_size=2)


def _nullness(place: str) -> st.SearchStrategy[tuple[Any, str]]:
    null, not_null = f"({place} is null)", f"({place} is not null)"
    return st.sampled_from(
        [
            (None, null),
            ({"eq": None}, null),
            ({"ne": None}, not_null),
            ({"is_null": True}, null),
            ({"is_null": False}, not_null),
        ]
    )


def _listed(operator: str, is_one: str, is_null: str, values: list[Any]) -> str:
    """``in`` and ``nin`` of several comparisons; a null among the values is looked for."""
    found = f"({is_one} or {is_null})" if None in values else is_one
    return found if operator == "in" else f"(not {found})"


def _of_scalars() -> st.SearchStrategy[Pair]:
    def conditions(name: str) -> st.SearchStrategy[Pair]:
        (type_name, pool), place = SCALARS[name], f'"{name}"'

        def compared(operator: str, value: Any) -> str:
            return f"({place} {SYMBOLS[operator]} {_quoted(value)}::{type_name})"

        def member(values: list[Any]) -> str:
            equal = " or ".join(compared("eq", value) for value in values if value is not None)
            return f"({equal or 'false'})"

        def listed(operator: str, values: list[Any]) -> str:
            is_one, is_null = member(values), f"({place} is null)"
            if None in values:
                is_one = f"coalesce({is_one}, false)"
            return _listed(operator, is_one, is_null, values)

        one = st.sampled_from(pool)
        return st.one_of(
            _nullness(place),
            one.map(lambda value: (value, compared("eq", value))),
            _values(pool).map(lambda values: (values, listed("in", values))),
            st.tuples(st.sampled_from(list(SYMBOLS)), one).map(
                lambda t: ({t[0]: t[1]}, compared(*t))
            ),
            st.tuples(st.sampled_from(["in", "nin"]), _values(pool)).map(
                lambda t: ({t[0]: t[1]}, listed(*t))
            ),
            _pair_of(pool).map(
                lambda v: ({"between": v}, f"({compared('gte', v[0])} and {compared('lte', v[1])})")
            ),
            st.tuples(st.sampled_from(["like", "ilike"]), st.sampled_from(PATTERNS)).map(
                lambda t: ({t[0]: t[1]}, f"({place}::text {t[0]} {_quoted(t[1])})")
            ),
        ).map(lambda pair: ({name: pair[0]}, pair[1]))

    return st.sampled_from(list(SCALARS)).flatmap(conditions)


def _has(name: str, value: Any) -> str:
    element = ARRAYS[name][0]
    literal = _as_jsonb(value) if element == "jsonb" else f"{_quoted(value)}::{element}"
    return f"exists (select from unnest({name}) as e (v) where e.v = {literal})"


def _contains(name: str, value: Any) -> str:
    values = value if isinstance(value, list) else [value]
    every = " and ".join(_has(name, item) for item in values)
    return f"(case when {name} is not null then {every or 'true'} end)"


def _overlaps(name: str, values: list[Any]) -> str:
    some = " or ".join(_has(name, value) for value in values if value is not None)
    if None in values:
        return f"({some or 'false'} or {name} is null)"
    return f"(case when {name} is not null then {some} end)" if some else "false"


def _of_arrays() -> st.SearchStrategy[Pair]:
    def conditions(name: str) -> st.SearchStrategy[Pair]:
        pool = ARRAYS[name][1]

        def equal(values: list[Any]) -> str:
            # Null elements are equal to each other, in arrays as in json.
            return f"(to_jsonb({name}) = {_as_jsonb(values)})"

        def listed(operator: str, arrays: list[Any]) -> str:
            some = " or ".join(equal(values) for values in arrays if values is not None)
            is_one = f"({some or 'false'})"
            if None in arrays:
                is_one = f"coalesce({is_one}, false)"
            return _listed(operator, is_one, f"({name} is null)", arrays)

        one = st.sampled_from(pool)
        alone = st.sampled_from([v for v in pool if not isinstance(v, list | dict)])
        several = st.lists(one, max_size=3)
        arrays = st.lists(st.one_of(_values(pool), st.none()), max_size=3)
        return st.one_of(
            _nullness(name),
            alone.map(lambda value: (value, _contains(name, value))),
            _values(pool).map(lambda values: (values, _overlaps(name, values))),
            st.one_of(alone, several).map(lambda v: ({"contains": v}, _contains(name, v))),
            _values(pool).map(lambda values: ({"overlaps": values}, _overlaps(name, values))),
            _values(pool).map(lambda values: ({"eq": values}, equal(values))),
            _values(pool).map(lambda values: ({"ne": values}, f"(not {equal(values)})")),
            st.tuples(st.sampled_from(["in", "nin"]), arrays).map(
                lambda t: ({t[0]: t[1]}, listed(*t))
            ),
        ).map(lambda pair: ({name: pair[0]}, pair[1]))

    return st.sampled_from(list(ARRAYS)).flatmap(conditions)


def _kind(value: Any) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "string", dict: "object"}
    return names.get(type(value), "array")


def _node(name: str, path: str) -> str:
    node = DOCUMENTS[name]
    for segment in path.split("."):
        step = f"({node} -> '{segment}')"
        if segment.lstrip("-").isdigit():
            step = f"(case jsonb_typeof({node}) when 'array' then {node} -> ({segment}) else {step} end)"
        node = step
    return node


def _of_paths() -> st.SearchStrategy[Pair]:
    def conditions(name: str, path: str) -> st.SearchStrategy[Pair]:
        node = _node(name, path)
        text = f"({node} #>> '{{}}')"

        def compared(operator: str, value: Any) -> str:
            kind, symbol = _kind(value), SYMBOLS[operator]
            condition = {
                "string": f"{text} {symbol} {_quoted(value)}",
                "number": f"({node})::numeric {symbol} {json.dumps(value)}",
                "boolean": f"({node})::boolean {symbol} {json.dumps(value)}",
            }.get(kind, f"{node} {symbol} {_as_jsonb(value)}")
            return f"(case jsonb_typeof({node}) when '{kind}' then {condition} end)"

        def listed(operator: str, values: list[Any]) -> str:
            given = [value for value in values if value is not None]
            kinds = ", ".join(sorted({f"'{_kind(value)}'" for value in given}))
            some = " or ".join(f"coalesce({compared('eq', value)}, false)" for value in given)
            is_one = f"(case when jsonb_typeof({node}) in ({kinds}) then {some} end)"
            if not given:
                is_one = "false"
            if None not in values:
                return is_one if operator == "in" else f"(not {is_one})"
            if operator == "in":
                return f"({is_one} or {text} is null)"
            return f"(not {is_one} and {text} is not null)"

        scalar = st.sampled_from(SCALAR_JSON)
        some_json = st.sampled_from([value for value in ANY_JSON if value is not None])
        two = scalar.flatmap(lambda v: _pair_of([w for w in SCALAR_JSON if _kind(w) == _kind(v)]))
        return st.one_of(
            _nullness(text),
            scalar.map(lambda value: (value, compared("eq", value))),
            _values(ANY_JSON).map(lambda values: (values, listed("in", values))),
            st.tuples(st.sampled_from(["eq", "ne"]), some_json).map(
                lambda t: ({t[0]: t[1]}, compared(*t))
            ),
            st.tuples(st.sampled_from(list(SYMBOLS)), scalar).map(
                lambda t: ({t[0]: t[1]}, compared(*t))
            ),
            st.tuples(st.sampled_from(["in", "nin"]), _values(ANY_JSON)).map(
                lambda t: ({t[0]: t[1]}, listed(*t))
            ),
            two.map(
                lambda v: ({"between": v}, f"({compared('gte', v[0])} and {compared('lte', v[1])})")
            ),
            st.tuples(st.sampled_from(["like", "ilike"]), st.sampled_from(PATTERNS)).map(
                lambda t: (
                    {t[0]: t[1]},
                    f"(case jsonb_typeof({node}) when 'string' then {text} {t[0]} {_quoted(t[1])} end)",
                )
            ),
            st.sampled_from(ANY_JSON).map(
                lambda v: ({"contains": v}, f"({node} @> {_as_jsonb(v)})")
            ),
            st.sampled_from(["name", "first", "0", "Ann"]).map(
                lambda v: ({"has_key": v}, f"jsonb_exists({node}, '{v}')")
            ),
        ).map(lambda pair: ({f"{name}.{path}": pair[0]}, pair[1]))

    return st.tuples(st.sampled_from(list(DOCUMENTS)), st.sampled_from(PATHS)).flatmap(
        lambda t: conditions(*t)
    )


def _of_documents() -> st.SearchStrategy[Pair]:
    def conditions(name: str) -> st.SearchStrategy[Pair]:
        place = DOCUMENTS[name]
        several = st.lists(st.sampled_from([v for v in ANY_JSON if v is not None]), max_size=3)
        some_json = st.sampled_from([value for value in ANY_JSON if value is not None])

        def listed(operator: str, values: list[Any]) -> str:
            some = " or ".join(f"{place} = {_as_jsonb(value)}" for value in values)
            return f"({some or 'false'})" if operator == "in" else f"(not ({some or 'false'}))"

        return st.one_of(
            _nullness(name),
            st.tuples(st.sampled_from(list(SYMBOLS)), some_json).map(
                lambda t: ({t[0]: t[1]}, f"({place} {SYMBOLS[t[0]]} {_as_jsonb(t[1])})")
            ),
            st.tuples(st.sampled_from(["in", "nin"]), several).map(
                lambda t: ({t[0]: t[1]}, listed(*t))
            ),
            st.sampled_from(ANY_JSON).map(
                lambda v: ({"contains": v}, f"({place} @> {_as_jsonb(v)})")
            ),
            st.sampled_from(["author", "n", "Ann"]).map(
                lambda v: ({"has_key": v}, f"jsonb_exists({place}, '{v}')")
            ),
        ).map(lambda pair: ({name: pair[0]}, pair[1]))

    return st.sampled_from(list(DOCUMENTS)).flatmap(conditions)

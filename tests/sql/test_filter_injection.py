"""Filters from hostile clients: nothing in a filter ever becomes SQL.

The payloads are in the style of published attacks on other stores of vectors: values and patterns
that end a literal, keys of metadata that are pasted into a json operator, expressions that are
pasted into a jsonpath.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pglast import parse_sql
from psycopg import sql
from psycopg.types.json import Jsonb

from pgembed.database import Connection
from pgembed.errors import FilterError, InputError
from pgembed.searching import search
from tests.sql.support import column, refused, scalar

PAYLOADS = {
    # The end of a literal.
    "quote": "'",
    "doubled": "''",
    "tripled": "'''",
    "or true": "' or true --",
    "doubled or true": "'' or true --",
    "union": "' union select rolname, 1 from pg_authid --",
    "stacked": "'; drop table papers; --",
    "copy": "'; copy papers to program 'touch /tmp/owned'; --",
    "parenthesis": "') or true --",
    "parentheses": "')) or ((true",
    "cast": "'::text) or (1=1) --",
    "sleep": "' or pg_sleep(60) is null --",
    "double quote": '"',
    "doubled double quote": '""',
    "identifier": '" or true --',
    "identifier and dot": '"."title" is not null or "s"."id',
    # Escapes.
    "backslash": "\\",
    "backslashes": "\\\\",
    "escaped quote": "\\' or true --",
    "escaped backslash": "\\\\' or true --",
    "escape string": "E'\\x27' or true --",
    "octal": "\\047 or true --",
    "unicode escape": "U&'\\0027' or true --",
    "json escape": "\\u0027 or true --",
    # Dollar quotes, comments, statements.
    "dollars": "$$",
    "dollars or true": "$$ or true --",
    "tagged dollars": "$q$ or true --$q$",
    "dash comment": "--",
    "comment": "/* */ or true /*",
    "open comment": "/*",
    "closed comment": "*/ or true",
    "semicolon": ";",
    "union select": "UNION SELECT 1",
    "subquery": "(select 1)",
    "newlines": "a\n\r\t\x0b\x0c\x08b\n' or true --\n",
    "control": "\x01\x1a\x7f",
    # Keys of metadata that end the operator around them.
    "metadata key": "key' = 'x' or metadata_->>'other",
    "metadata key and comment": "a' is null or true) --",
    "arrow": "'->>'a' or 'x'='x",
    "cast of a key": "a')::text in ('x') or ('a",
    "array end": "}' or true --",
    "array of keys": "{a,b}",
    "array element": '",""}',
    "null element": "NULL",
    # Jsonpath.
    "jsonpath": '$ ? (@.a == "x" || 1 == 1)',
    "jsonpath string": '" || true || "',
    "jsonpath index": '"] || true || ["',
    "jsonpath filter": '" || @.keyvalue().key like_regex ".*" || "" == "',
    "jsonpath wildcard": "$.**",
    "jsonpath star": "*",
    "json": '"}, "b": {"c": "',
    "json document": '{"eq": 1}',
    # Templates and placeholders.
    "format s": "%s",
    "format I": "%I",
    "format L": "%L",
    "format position": "%1$s %2$I %3$L",
    "format of a quote": "%'s' %",
    "percent": "%",
    "percents": "%%",
    "python": "%(name)s {0} {name}",
    "placeholder": "$1",
    "placeholders": "$1 $2 $16 :a @a ?",
    "psql": ":'title' \\gexec",
    # Quotes that are none, and other scripts.
    "curly quotes": "\u2018 or true --\u2019",
    "modifier quote": "\u02bc or 1=1 --",
    "wide quote": "\uff07 or 1=1 --",
    "prime": "\u2032 or 1=1 --",
    "overlong": "\u00c0\u00a7 or 1=1 --",
    "wide backslash": "\uff3c' or true --",
    "right to left": "\u202e' or true --",
    "no width": "\u200b'\ufeff or true --",
    "emoji": "\U0001f600'",
    # Names of what there is.
    "column": "id",
    "qualified column": "s.id",
    "expression": "id = id or true",
    "operator": "= 1 or 1 =",
    "operators": "$or",
    "null": "null",
    "blank": " ",
    "empty": "",
    "dot": ".",
    # Length.
    "64 bytes": "n" * 64,
    "long": "n" * 3_000,
    "long quotes": "'" * 3_000,
    "long percents": "%s" * 1_500,
    "long name": '"' * 63 + " or true --",
}

HARMLESS = "harmless"

VALUE_PLACES: dict[str, Callable[[str], Any]] = {
    "shorthand": lambda text: {"title": text},
    "eq": lambda text: {"title": {"eq": text}},
    "list": lambda text: {"title": [text, None]},
    "between": lambda text: {"title": {"between": [text, text]}},
    "element": lambda text: {"tags": text},
    "one element of an array": lambda text: {"tags": {"contains": ["fixed", text]}},
    "overlaps": lambda text: {"tags": [text, "another"]},
    "whole array": lambda text: {"tags": {"eq": ["fixed", text, None]}},
    "arrays": lambda text: {"tags": {"in": [["fixed", text, None]]}},
    "document": lambda text: {"extra": {"contains": {"value": text}}},
    "document in an array": lambda text: {"extra": {"contains": {"list": [text]}}},
    "whole document": lambda text: {"whole": {"eq": {"value": text}}},
    "json document": lambda text: {"raw": {"contains": {"value": text}}},
    "key": lambda text: {"extra": {"has_key": "k" + text}},
    "key of a document": lambda text: {"extra": {"contains": {"k" + text: 9}}},
    "path": lambda text: {"extra.value": text},
    "path of json": lambda text: {"raw.value": text},
    "path in a list": lambda text: {"extra.value": ["another", text]},
    "path between": lambda text: {"extra.value": {"between": [text, text]}},
    "path contains": lambda text: {"extra.list": {"contains": [text]}},
    "path to an index": lambda text: {"extra.list.0": text},
    "path has key": lambda text: {"extra.inner": {"has_key": "k" + text}},
    "not of a path": lambda text: {"not": {"extra.value": {"ne": text}}},
    "deep": lambda text: {"or": [{"and": [{"not": {"not": {"title": text}}}]}]},
}
"""Filters with a text in one place; row 9 is the only one that holds the payload in each."""

KEYS: dict[str, Callable[[str], Any]] = {
    "column": lambda text: {text: 1},
    "column of a list": lambda text: {text: ["a", None]},
    "nested column": lambda text: {"or": [{"id": 1}, {"not": {text: {"eq": 1}}}]},
    "column before a path": lambda text: {text + ".a": "x"},
    "beside a column": lambda text: {"title" + text: "x"},
    "operator": lambda text: {"title": {text: "x"}},
    "operator of an array": lambda text: {"tags": {text: "x"}},
    "operator of json": lambda text: {"extra": {text: "x"}},
    "operator of a path": lambda text: {"extra.value": {text: "x"}},
}
"""Filters with a text for a name; none of the payloads is one, but id, and title with nothing."""

HYBRID = ", hybrid => true, query_text => 'apple 100%s'"


@pytest.fixture
def stocked(shared: Connection) -> Connection:
    """``papers`` with an array and json besides; payloads go into row 9, and 10 is null."""
    shared.execute(
        "alter table papers add tags text[] default '{fixed}', add extra jsonb default '{\"value\": \"other\"}',"
        " add raw json default '{\"value\": \"other\"}', add whole jsonb default '{}'"
    )
    shared.execute(
        "update papers set tags = null, extra = null, raw = null, whole = null where id = 10"
    )
    return shared


def stock(connection: Connection, text: str) -> None:
    """Put a text into every place of row 9 that a filter may look into."""
    extra = {"value": text, "list": [text], "k" + text: 9, "inner": {"k" + text: 1}}
    connection.execute(
        "update papers set title = %s, tags = array['fixed', %s, null], extra = %s, raw = %s,"
        " whole = %s where id = 9",
        (text, text, Jsonb(extra), json.dumps(extra), Jsonb({"value": text})),
    )


def compiled(connection: Connection, conditions: Any) -> str:
    """The predicate that a filter becomes."""
    return str(
        scalar(connection, "select pgembed.compile_filter('papers', %s)", (Jsonb(conditions),))
    )


def found(connection: Connection, conditions: Any, options: str = "") -> list[str]:
    """Keys that pgembed.search finds, in the order of numbers."""
    statement = (
        "select key from pgembed.search('papers', (select embedding::vector from"
        f" pgembed_data.papers where id = 1), 60, filter => %s{options.replace('%', '%%')}) order by key::int"
    )
    return column(connection, statement, (Jsonb(conditions),))


def shape(predicate: str, *names: str) -> Any:
    """The syntax tree of one predicate, its constants and the given names replaced."""
    (statement,) = parse_sql(f"select 1 from papers as s where {predicate}")
    return without_constants(statement.stmt(skip_none=True), names)


def without_constants(node: Any, names: tuple[str, ...]) -> Any:
    """A syntax tree with one constant in place of all, and without positions in the text."""
    if isinstance(node, dict):
        if node.get("@") == "A_Const":
            return "constant"
        if node.get("@") == "String" and node["sval"] in names:
            return "name"
        return {
            key: without_constants(value, names)
            for key, value in node.items()
            if not key.endswith(("location", "list_start", "list_end"))
        }
    if isinstance(node, list | tuple):
        return [without_constants(item, names) for item in node]
    return node


def state(connection: Connection) -> Any:
    """Everything that a payload might change: rows, relations, functions, roles, settings."""
    return connection.execute(
        "select (select md5(string_agg(p::text, '|' order by id)) from papers as p),"
        " (select md5(string_agg(d::text, '|' order by id, chunk_no)) from pgembed_data.papers as d),"
        " (select string_agg(oid::text || relname, '|' order by oid) from pg_class),"
        " (select count(*) from pg_proc), (select count(*) from pg_authid),"
        " (select md5(string_agg(name || setting, '|' order by name)) from pg_settings"
        "   where name not like 'transaction%' and name not like '%count%')"
    ).fetchone()


each_payload = pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())


@each_payload
def test_value_is_a_constant(stocked: Connection, payload: str) -> None:
    """In every place of a value, the predicate differs from a harmless one by constants alone."""
    for place, conditions in VALUE_PLACES.items():
        harmless = shape(compiled(stocked, conditions(HARMLESS)))
        assert shape(compiled(stocked, conditions(payload))) == harmless, place


@each_payload
def test_search_finds_what_equals_the_payload(stocked: Connection, payload: str) -> None:
    """In every place of a value, a search finds the one row that holds it, and changes nothing."""
    stock(stocked, payload)
    before = state(stocked)
    for place, conditions in VALUE_PLACES.items():
        assert found(stocked, conditions(payload)) == ["9"], place
    conditions = {"or": [place(payload) for place in VALUE_PLACES.values()]}
    assert found(stocked, conditions, HYBRID) == ["9"]
    assert state(stocked) == before


@each_payload
def test_search_finds_nothing_where_no_row_equals_it(stocked: Connection, payload: str) -> None:
    """A payload that no row holds finds no row, in no place and whatever is around it."""
    stock(stocked, "nothing of the kind")
    everywhere = {"or": [conditions(payload) for conditions in VALUE_PLACES.values()]}
    assert found(stocked, everywhere) == []
    rest = {"title": {"nin": [payload]}, "extra.value": {"ne": payload}}
    assert found(stocked, rest) == [str(n) for n in range(1, 61) if n != 10]


@each_payload
def test_pattern_is_a_constant(stocked: Connection, payload: str) -> None:
    """A pattern matches what the same parameter of like matches, or its escape is refused."""
    stock(stocked, payload)
    for operator in ("like", "ilike"):
        for key, place in (("title", "title"), ("extra.value", "extra ->> 'value'")):
            harmless = shape(compiled(stocked, {key: {operator: HARMLESS}}))
            for pattern in (payload, f"{payload}%", f"%{payload}_"):
                conditions = {key: {operator: pattern}}
                if (len(pattern) - len(pattern.rstrip("\\"))) % 2:
                    refused(stocked, FilterError, *compile_call(conditions))
                    continue
                assert shape(compiled(stocked, conditions)) == harmless
                by_hand = (
                    f"select id::text from papers where {place} {operator} %s order by papers.id"
                )
                assert found(stocked, conditions) == column(stocked, by_hand, (pattern,))


def compile_call(conditions: Any) -> tuple[str, tuple[Any, ...]]:
    """A call of compile_filter with its parameters."""
    return "select pgembed.compile_filter('papers', %s)", (Jsonb(conditions),)


@each_payload
def test_name_is_refused(stocked: Connection, payload: str) -> None:
    """A payload for a column or an operator is refused with our own error, and changes nothing."""
    before = state(stocked)
    for place, conditions in KEYS.items():
        is_name = (place, payload) in {
            ("column", "id"),
            ("column of a list", "id"),
            ("nested column", "id"),
            ("beside a column", ""),
        }
        if not is_name:
            error = refused(stocked, FilterError, *compile_call(conditions(payload)))
            assert len(str(error)) < 1_000, place
    for conditions in ({"year": payload}, {"added": [payload]}, {"price": {"lt": payload}}):
        refused(stocked, FilterError, *compile_call(conditions))
    assert state(stocked) == before


@each_payload
def test_path_segment_is_a_constant(stocked: Connection, payload: str) -> None:
    """A segment of a path is a key that is looked up: only the row with that key is found."""
    segments = payload.split(".")
    document: Any = "there"
    for segment in reversed(segments):
        document = {segment: document}
    stocked.execute(
        "update papers set extra = %s, raw = %s where id = 9",
        (Jsonb(document), json.dumps(document)),
    )
    before = state(stocked)
    for column_name in ("extra", "raw"):
        key = f"{column_name}.{payload}"
        for condition, result in (
            ("there", ["9"]),
            ({"ne": "else"}, ["9"]),
            ({"gte": "there"}, ["9"]),
            ({"in": ["there", "else"]}, ["9"]),
            ({"like": "th%"}, ["9"]),
            ({"is_null": False}, ["9"]),
            ({"contains": "there"}, ["9"]),
            ({"has_key": "there"}, ["9"]),
            ("else", []),
        ):
            if "" in segments:
                refused(stocked, FilterError, *compile_call({key: condition}))
                continue
            harmless = shape(compiled(stocked, {f"{column_name}.{HARMLESS}": condition}))
            assert shape(compiled(stocked, {key: condition})) == harmless
            assert found(stocked, {key: condition}) == result
    assert state(stocked) == before


@each_payload
def test_column_of_that_name_is_an_identifier(stocked: Connection, payload: str) -> None:
    """Where a column bears the payload for a name, the filter is on it and on nothing else."""
    if not 0 < len(payload.encode()) < 64 or payload == "id":
        return
    identifier = sql.Identifier(payload)
    stocked.execute(sql.SQL("alter table papers add {} jsonb").format(identifier))
    stocked.execute(
        sql.SQL("update papers set {} = {} where id = 9").format(identifier, Jsonb({"a": "x"}))
    )
    stocked.execute("alter table papers add harmless jsonb")
    for suffix, condition in (("", {"contains": {"a": "x"}}), (".a", "x"), (".a", {"ne": "y"})):
        harmless = shape(compiled(stocked, {HARMLESS + suffix: condition}), HARMLESS)
        predicate = compiled(stocked, {payload + suffix: condition})
        assert shape(predicate, payload) == harmless
        assert found(stocked, {payload + suffix: condition}) == ["9"]


def test_alias_is_an_identifier(stocked: Connection) -> None:
    """The alias too is a name, whatever it holds."""
    harmless = shape(compiled(stocked, {"id": 1}), "s", "id")
    for payload in PAYLOADS.values():
        if 0 < len(payload.encode()) < 64 and payload != "id":
            predicate = scalar(
                stocked,
                "select pgembed.compile_filter('papers', '{\"id\": 1}', %s)",
                (payload,),
            )
            assert shape(predicate, payload, "id") == harmless


@pytest.mark.parametrize(
    "payload", ["%", "%s", "%I", "%L", "%1$s", "%%", "$1", "$1 %2$s ' \\", "100% or $2"]
)
def test_templates_survive_every_statement(points: Connection, payload: str) -> None:
    """Planning, explaining, HNSW, exact and hybrid search paste the predicate unchanged."""
    points.execute("update points set tag = %s where parity", (payload,))
    points.execute("update points set tag = 'few' || %s where id <= 3", (payload,))
    points.execute("analyze points")
    direction = "(select embedding::vector from pgembed_data.points where id = 8)"
    for tag, count, plan in ((payload, 10, "hnsw"), ("few" + payload, 3, "exact")):
        conditions = Jsonb({"tag": tag})
        planned = points.execute(
            "select plan, predicate from pgembed.plan_search('points', 10, %s)", (conditions,)
        ).fetchone()
        predicate = scalar(points, "select format('(s.tag = %%L::text)', %s::text)", (tag,))
        assert planned == (plan, predicate)
        wanted = column(points, "select id::text from points where tag = %s", (tag,))
        for options in ("", ", hybrid => true, query_text => 'chunk 8'"):
            call = f"('points', {direction}, 10, filter => %s{options})"
            keys = column(points, f"select key from pgembed.search{call}", (conditions,))
            assert len(keys) == count
            assert set(keys) <= set(wanted)
            points.execute(f"select * from pgembed.explain_search{call}", (conditions,))


@pytest.mark.parametrize(
    "conditions", [{"title": "a\0"}, {"a\0": 1}, {"extra.a\0": 1}, {"tags": ["\0' or true --"]}]
)
def test_nul_is_refused(stocked: Connection, conditions: Any) -> None:
    """A NUL, which no text of PostgreSQL holds, never gets as far as a filter."""
    with pytest.raises(psycopg.errors.UntranslatableCharacter), stocked.transaction():
        stocked.execute(*compile_call(conditions))
    vector = np.eye(32)[0]
    with pytest.raises(InputError), stocked.transaction():
        search(stocked, "papers", vector, filter=conditions)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    payload=st.text(
        st.sampled_from("'\"\\$%;-/*(){}[].,:?@|&=<>sILEU1 \n\u2019")
        | st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
        max_size=12,
    )
)
def test_any_text_is_a_constant(stocked: Connection, payload: str) -> None:
    """Whatever text comes: as a value and in a path it is a constant, and the row is found."""
    with stocked.transaction(force_rollback=True):
        stock(stocked, payload)
        for place, conditions in VALUE_PLACES.items():
            harmless = shape(compiled(stocked, conditions(HARMLESS)))
            predicate = compiled(stocked, conditions(payload))
            assert shape(predicate) == harmless, place
            query = f"select id from papers as s where {predicate}".encode()
            assert column(stocked, query) == [9], place
        if "." not in payload:
            segment = {f"extra.k{payload}": 9, "not": {f"extra.k{payload}": 8}}
            harmless = shape(compiled(stocked, {"extra.k": 9, "not": {"extra.k": 8}}))
            predicate = compiled(stocked, segment)
            assert shape(predicate) == harmless
            query = f"select id from papers as s where {predicate}".encode()
            assert column(stocked, query) == [9]

"""pgembed.compile_filter."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from pgembed.database import Connection
from pgembed.errors import FilterError
from tests.sql.filters import PAPERS, as_json, filters, matches
from tests.sql.support import column, refused, scalar

OPERATORS = "eq, ne, lt, lte, gt, gte, in, nin, between, like, ilike, is_null"


def compiled(connection: Connection, conditions: Any, table: str = "papers") -> str:
    """The condition that a filter becomes."""
    statement = "select pgembed.compile_filter(%s::text::regclass, %s)"
    return str(scalar(connection, statement, (table, Jsonb(conditions))))


def found(connection: Connection, conditions: Any, table: str = "papers") -> list[int]:
    """Ids of the rows that a filter finds."""
    condition = compiled(connection, conditions, table)
    return column(connection, f"select id from {table} as s where {condition} order by id".encode())


def refusal(connection: Connection, conditions: Any) -> FilterError:
    """The error that a filter on ``papers`` ends in."""
    error = refused(
        connection,
        FilterError,
        "select pgembed.compile_filter('papers', %s)",
        (Jsonb(conditions),),
    )
    assert isinstance(error, FilterError)
    return error


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(conditions=filters(PAPERS))
def test_filter_means_what_its_naive_twin_means(
    shared: Connection, conditions: dict[str, Any]
) -> None:
    """Any filter finds the rows that the same filter in Python finds, nulls included."""
    with shared.transaction(force_rollback=True):
        shared.execute(
            "update papers set year = null, topic = null, active = null where id % 4 = 0"
        )
        with shared.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute("select * from papers order by id").fetchall()
        expected = [row["id"] for row in rows if matches(conditions, row)]
        assert found(shared, as_json(conditions)) == expected


@pytest.mark.parametrize(
    ("conditions", "by_hand"),
    [
        ({"year": 2005}, "year = 2005"),
        ({"year": {"eq": 2005}}, "year = 2005"),
        ({"year": {"ne": 2005}}, "year <> 2005"),
        ({"price": {"lt": 10.5}}, "price < 10.5"),
        ({"price": {"lte": 11.25}}, "price <= 11.25"),
        ({"added": {"gt": "2020-02-01"}}, "added > '2020-02-01'"),
        ({"added": {"gte": "2020-02-01"}}, "added >= '2020-02-01'"),
        ({"topic": ["a", "b"]}, "topic in ('a', 'b')"),
        ({"topic": {"in": ["a"]}}, "topic in ('a')"),
        ({"topic": {"nin": ["a", "b"]}}, "topic not in ('a', 'b')"),
        ({"year": {"between": [2003, 2005]}}, "year between 2003 and 2005"),
        ({"title": {"like": "red%"}}, "title like 'red%'"),
        ({"title": {"ilike": "RED%"}}, "title ilike 'RED%'"),
        ({"year": {"like": "%5"}}, "year::text like '%5'"),
        ({"abstract": {"is_null": True}}, "abstract is null"),
        ({"abstract": {"is_null": False}}, "abstract is not null"),
        ({"abstract": None}, "abstract is null"),
        ({"abstract": {"ne": None}}, "abstract is not null"),
        ({"active": True, "topic": "a"}, "active and topic = 'a'"),
        ({"year": {"gt": 2003, "lt": 2006}}, "year > 2003 and year < 2006"),
        ({"or": [{"id": 1}, {"id": 2}]}, "id in (1, 2)"),
        ({"and": [{"id": {"gt": 1}}, {"id": {"lt": 4}}]}, "id in (2, 3)"),
        ({"not": {"id": {"gt": 3}}}, "id <= 3"),
        ({"id": "7"}, "id = 7"),
        ({}, "true"),
        ({"and": []}, "true"),
        ({"or": []}, "false"),
        ({"topic": []}, "false"),
        ({"topic": {"nin": []}}, "true"),
        ({"topic": {}}, "true"),
        ({"not": {}}, "false"),
        ({"or": [{}]}, "true"),
    ],
)
def test_operator_by_operator(shared: Connection, conditions: Any, by_hand: str) -> None:
    """Each operator finds what the predicate that one would write finds."""
    expected = column(shared, f"select id from papers where {by_hand} order by id".encode())
    assert found(shared, conditions) == expected


def test_null_among_values(shared: Connection) -> None:
    """A null in a list stands for the rows where the column is null, unlike in SQL's own lists."""
    shared.execute("update papers set topic = null where id <= 10")
    null = list(range(1, 11))
    others = column(shared, "select id from papers where topic = 'b' order by id")
    assert found(shared, {"topic": ["b", None]}) == null + others
    assert found(shared, {"topic": [None]}) == null
    assert found(shared, {"topic": {"nin": ["a", "c", None]}}) == others
    assert found(shared, {"topic": {"nin": [None]}}) == list(range(11, 61))


def test_null_has_no_order(shared: Connection) -> None:
    """Comparisons with null, which would silently find nothing, are refused with what to write."""
    for value in ({"gt": None}, {"between": [2000, None]}, {"lte": None}):
        error = refusal(shared, {"year": value})
        assert "not with null" in str(error)
        assert '{"year": null}' in str(error.hint)


def test_no_filter_is_no_condition(shared: Connection) -> None:
    """A null filter is true."""
    assert scalar(shared, "select pgembed.compile_filter('papers', null)") == "true"


@pytest.mark.parametrize("conditions", [[], [1], "x", 3, True, None])
def test_filter_is_an_object(shared: Connection, conditions: Any) -> None:
    """Other json is refused, with an example."""
    error = refusal(shared, conditions)
    assert "a json object" in str(error)
    assert "gte" in str(error.hint)


@pytest.mark.parametrize("word", ["and", "or", "not"])
def test_combinations_take_filters(shared: Connection, word: str) -> None:
    """What stands within and, or, not is a filter itself."""
    for value in (3, "x", None, [[]], [None], ["x"]):
        refusal(shared, {word: value})


def test_depth_is_limited(shared: Connection) -> None:
    """Sixteen levels compile; 17, 100 and 3,000 are refused, not run."""
    for depth, word in ((16, "not"), (16, "or"), (16, "and")):
        compiled(shared, nested(depth, word))
    for depth, word in ((17, "not"), (17, "or"), (100, "and"), (300, "not")):
        assert "deeper than 16" in str(refusal(shared, nested(depth, word)))
    deep = "repeat('{\"not\": ', 3000) || '{}' || repeat('}', 3000)"
    refused(shared, FilterError, f"select pgembed.compile_filter('papers', ({deep})::jsonb)")


def nested(depth: int, word: str) -> Any:
    """A filter within so many combinations."""
    conditions: Any = {"id": 1}
    for _ in range(depth):
        conditions = {word: conditions if word == "not" else [conditions]}
    return conditions


def test_unknown_column_lists_the_others(shared: Connection) -> None:
    """The error names the column and those that exist; system and dropped columns do not."""
    shared.execute("alter table papers drop column price")
    for name in ("nope", "Year", "ctid", "xmin", "tableoid", "price", "", "s.id", "id "):
        error = refusal(shared, {name: 1})
        assert name in str(error)
        assert "id, title, abstract, year, topic, active, added" in str(error.hint)


def test_unknown_operator_lists_the_others(shared: Connection) -> None:
    """The error names operator and column, and the operators that exist."""
    for operator in ("nope", "EQ", "=", "$gte", "; select 1", ""):
        error = refusal(shared, {"year": {operator: 1}})
        assert "year" in str(error)
        assert OPERATORS in str(error.hint)


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ({"year": "many"}, ('"many"', "year", "integer")),
        ({"year": 2020.5}, ("2020.5", "year", "integer")),
        ({"year": True}, ("true", "year", "integer")),
        ({"year": [2020, "x"]}, ('"x"', "year", "integer")),
        ({"year": 99999999999}, ("99999999999", "year", "integer")),
        ({"added": "2020-02-30"}, ("2020-02-30", "added", "date")),
        ({"added": 20200101.5}, ("added", "date")),
        ({"active": "perhaps"}, ('"perhaps"', "active", "boolean")),
        ({"price": "dear"}, ('"dear"', "price", "numeric")),
        ({"year": {"gt": {"x": 1}}}, ("year", '{"x": 1}')),
        ({"year": {"gt": [1]}}, ("year", "[1]")),
        ({"year": [[1]]}, ("year", "[1]")),
        ({"year": {"in": 3}}, ("in", "year", "array", "3")),
        ({"year": {"between": [1]}}, ("between", "year", "two", "[1]")),
        ({"year": {"between": [1, 2, 3]}}, ("between", "two")),
        ({"title": {"like": 3}}, ("like", "title", "string")),
        ({"title": {"ilike": None}}, ("ilike", "title", "string")),
        ({"title": {"is_null": "yes"}}, ("is_null", "title", "true or false", '"yes"')),
        ({"title": {"like": "100\\"}}, ("title", "escape")),
    ],
)
def test_wrong_value_is_named(shared: Connection, conditions: Any, said: tuple[str, ...]) -> None:
    """The error names value, column and type, and comes before any row is read."""
    error = str(refusal(shared, conditions))
    assert all(part in error for part in said)


def test_types_with_their_own_refusals(shared: Connection) -> None:
    """What a domain, an enum, a regclass or a tsquery refuses is an error of the filter too."""
    shared.execute("create domain positive as int check (value > 0)")
    shared.execute("create type mood as enum ('sad', 'glad')")
    shared.execute(
        "alter table papers add p positive, add m mood, add r regclass, add q tsquery, add t text[],"
        " add u uuid, add j jsonb, add v vector(2)"
    )
    for conditions in (
        {"p": -1},
        {"m": "angry"},
        {"r": "no.such.table.at.all"},
        {"q": "a & & b"},
        {"t": "{a"},
        {"u": "1"},
        {"v": "[1,2"},
    ):
        assert "is no" in str(refusal(shared, conditions))
    shared.execute(
        "update papers set p = 3, m = 'glad', r = 'papers', q = 'a & b', t = '{x,y}',"
        " u = '00000000-0000-0000-0000-000000000001', j = '{\"a\": [1]}', v = '[1,2]' where id = 5"
    )
    for conditions in (
        {"p": {"gt": 2}},
        {"m": ["glad", "sad"]},
        {"r": "papers"},
        {"q": "a & b"},
        {"t": "{x,y}"},
        {"t": {"in": ["{x,y}", "{}"]}},
        {"u": {"gte": "00000000-0000-0000-0000-000000000001"}},
        {"j": {"eq": {"a": [1]}}},
        {"j": {"in": [{"a": [1]}]}},
        {"v": "[1,2]"},
    ):
        assert found(shared, conditions) == [5]


def test_values_are_not_cut_to_the_column(shared: Connection) -> None:
    """A text longer than varchar(n) matches nothing, rather than what it would be cut to."""
    shared.execute("alter table papers add short varchar(3), add fixed char(3), add bits bit(2)")
    shared.execute("update papers set short = 'abc', fixed = 'ab', bits = '10' where id = 5")
    assert found(shared, {"short": "abc"}) == [5]
    assert found(shared, {"short": "abcdef"}) == []
    assert found(shared, {"fixed": "ab"}) == [5]
    assert found(shared, {"fixed": "abcdef"}) == []
    assert found(shared, {"bits": "10"}) == [5]
    assert found(shared, {"bits": "101"}) == []


def test_operators_of_a_type_beyond_the_search_path(shared: Connection) -> None:
    """Citext compares without case even where pgembed's search path does not lead to it."""
    available = "select count(*) from pg_available_extensions where name = 'citext'"
    if not scalar(shared, available):
        pytest.skip("this server has no citext")
    shared.execute("create schema apart")
    shared.execute("create extension citext schema apart")
    shared.execute("alter table papers add mail apart.citext")
    shared.execute("update papers set mail = 'Ann@x.org' where id = 5")
    for value in ("ann@X.org", ["ANN@x.org"], {"between": ["ANN@x.org", "ann@x.org"]}):
        assert found(shared, {"mail": value}) == [5]
    assert found(shared, {"mail": {"nin": ["ANN@x.org"]}}) == []
    assert found(shared, {"mail": {"ne": "ANN@x.org"}}) == []


def test_columns_with_names_of_any_kind(shared: Connection) -> None:
    """Quotes, capitals, spaces and keywords in a column's name are no obstacle."""
    for number, name in enumerate(('A "b"', "select", "x'; drop table papers; --", "%I", "ü")):
        quoted = '"' + name.replace('"', '""') + '"'
        shared.execute(f"alter table papers add {quoted.replace('%', '%%')} int", ())
        shared.execute(
            f"update papers set {quoted.replace('%', '%%')} = %s where id = 9", (number,)
        )
        assert found(shared, {name: number}) == [9]
        assert "integer" in str(refusal(shared, {name: "x"}))


def test_table_with_a_name_of_any_kind(shared: Connection) -> None:
    """A source that needs quotes is quoted in errors."""
    shared.execute('create table "odd ""one" (id int, "A" int)')
    error = refused(
        shared, FilterError, 'select pgembed.compile_filter(\'"odd ""one"\', \'{"a": 1}\')'
    )
    assert '"odd ""one"' in str(error)
    assert 'id, "A"' in str(error.hint)


ATTACKS = [
    "'",
    "''",
    "' or true --",
    "'; drop table papers; --",
    '"',
    '" or true --',
    "\\",
    "\\'",
    "\\' or true --",
    "$$",
    "$$ or true; --",
    "$q$ or true $q$",
    "/* */ or true",
    "--",
    "\u2019 or true --",
    "\u02bc or 1=1",
    "\uff07 or 1=1",
    "%s",
    "%I",
    "%1$s %L",
    "%%",
    "$1",
    ":a",
    "a\nb\r\tc",
    "E'\\x27'",
    "U&'\\0027'",
    "x" * 100_000,
    "'" * 10_000,
    "id",
    "s.id",
    "id = id or true",
    "null",
    "(select 1)",
    "\U0001f600",
    "\u202e",
]


@pytest.mark.parametrize("attack", ATTACKS, ids=range(len(ATTACKS)))
def test_values_are_literals(shared: Connection, attack: str) -> None:
    """A hostile value of a text column is compared as it is: only a row that holds it is found."""
    shared.execute("update papers set title = %s where id = 9", (attack,))
    for conditions in (
        {"title": attack},
        {"title": [attack, "none"]},
        {"title": {"between": [attack, attack]}},
        {"or": [{"title": attack}, {"title": {"in": [attack]}}]},
    ):
        assert found(shared, conditions) == [9]
    assert found(shared, {"topic": attack}) == []
    assert found(shared, {"title": {"ne": attack}}) == [n for n in range(1, 61) if n != 9]


@pytest.mark.parametrize("attack", ATTACKS, ids=range(len(ATTACKS)))
def test_keys_are_names(shared: Connection, attack: str) -> None:
    """A hostile column or operator is refused, and so is a hostile value of another type."""
    for conditions in ({attack: 1}, {"year": {attack: 1}}, {"year": attack}, {"added": [attack]}):
        if attack != "id":
            refusal(shared, conditions)
    assert scalar(shared, "select count(*) from papers") == 60


@pytest.mark.parametrize("attack", ATTACKS[:20], ids=range(20))
def test_patterns_are_literals(shared: Connection, attack: str) -> None:
    """A hostile pattern is a pattern: refused, or compared."""
    shared.execute("set local standard_conforming_strings = on")
    try:
        ids = found(shared, {"title": {"like": f"{attack}%"}})
    except Exception as error:
        raise AssertionError(attack) from error
    by_hand = column(
        shared, "select id from papers where title like %s order by id", (f"{attack}%",)
    )
    assert ids == by_hand


def test_filter_is_no_format_string(shared: Connection) -> None:
    """Percent signs in every place at once are compared, not expanded."""
    shared.execute("update papers set title = '%s%I%L%1$s' where id = 9")
    conditions = {"and": [{"title": "%s%I%L%1$s"}, {"not": {"topic": "%s"}}]}
    assert found(shared, conditions) == [9]


def test_backslashes_under_the_old_setting(shared: Connection) -> None:
    """With standard_conforming_strings off, literals mean the same."""
    version = scalar(shared, "select current_setting('server_version_num')::int")
    if version >= 190000:
        pytest.skip("PostgreSQL 19 has no such setting")
    shared.execute("update papers set title = %s where id = 9", ("\\' or true --\\\\",))
    condition = compiled(shared, {"title": "\\' or true --\\\\"})
    shared.execute("set local standard_conforming_strings = off")
    shared.execute("set local escape_string_warning = off")
    assert compiled(shared, {"title": "\\' or true --\\\\"}) == condition
    assert column(shared, f"select id from papers as s where {condition}".encode()) == [9]


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    conditions=st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["year", "title", "and", "or", "not", "eq", "in", "like", "lt"])
                | st.text(max_size=4),
                inner,
                max_size=3,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_compiles_or_is_refused(shared: Connection, conditions: Any) -> None:
    """Whatever json comes, the result is a condition that runs, or PGE02 and nothing else."""
    if "\\u0000" in json.dumps(conditions) or has_surrogates(conditions):
        return
    try:
        with shared.transaction():
            found(shared, conditions)
    except psycopg.Error as error:
        if error.sqlstate != "PGE02":
            raise


def has_surrogates(value: Any) -> bool:
    """Whether json's text is none that PostgreSQL can hold."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def test_many_values(shared: Connection) -> None:
    """Ten thousand values in a list compile and run."""
    assert found(shared, {"id": list(range(5, 10_005))}) == list(range(5, 61))
    assert len(found(shared, {"or": [{"id": n} for n in range(1_000)]})) == 60

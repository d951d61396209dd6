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
from tests.sql.filters import PAPERS, SHELF, Pair, as_json, filters, matches, shelf_filters
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


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


@pytest.fixture
def shelf(shared: Connection) -> Connection:
    """Table ``shelf``, with a column of each kind, until the end of the test."""
    shared.execute(SHELF)
    return shared


@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pair=shelf_filters())
def test_filter_means_what_its_sql_means(shelf: Connection, pair: Pair) -> None:
    """Every operator on every kind of column finds what SQL written another way finds."""
    conditions, by_hand = pair
    expected = column(shelf, f"select id from shelf where {by_hand} order by id".encode())
    assert found(shelf, conditions, "shelf") == expected


@pytest.mark.parametrize(
    ("conditions", "by_hand"),
    [
        # Arrays.
        ({"tags": "a"}, "'a' = any (tags)"),
        ({"tags": ["a", "a b"]}, "'a' = any (tags) or 'a b' = any (tags)"),
        ({"tags": {"contains": "a"}}, "tags @> '{a}'"),
        ({"tags": {"contains": ["b", "a"]}}, "tags @> '{a,b}'"),
        ({"tags": {"contains": []}}, "tags is not null"),
        ({"tags": {"overlaps": ["b", "NULL"]}}, "tags && '{b,\"NULL\"}'"),
        ({"tags": {"overlaps": ["b", None]}}, "tags && '{b}' or tags is null"),
        ({"tags": {"overlaps": [None]}}, "tags is null"),
        ({"tags": []}, "false"),
        ({"tags": {"eq": ["a", "b"]}}, "tags = '{a,b}'"),
        ({"tags": {"eq": ["b", "a"]}}, "tags = '{b,a}'"),
        ({"tags": {"eq": []}}, "tags = '{}'"),
        ({"tags": {"eq": [None]}}, "tags = '{NULL}'"),
        ({"tags": {"ne": ["a", "b"]}}, "tags <> '{a,b}'"),
        ({"tags": {"gt": ["a", "b"]}}, "tags > '{a,b}'"),
        ({"tags": {"in": [["a"], []]}}, "tags in ('{a}', '{}')"),
        ({"tags": {"nin": [["a"], []]}}, "tags not in ('{a}', '{}')"),
        ({"tags": {"between": [["a"], ["a", "b"]]}}, "tags between '{a}' and '{a,b}'"),
        ({"tags": {"like": "{a,%"}}, "tags::text like '{a,%'"),
        ({"tags": None}, "tags is null"),
        ({"tags": {"is_null": False}}, "tags is not null"),
        ({"not": {"tags": "a"}}, "not tags @> '{a}'"),
        ({"words": "a"}, "'a' = any (words)"),
        ({"words": {"eq": ["a"]}}, "words = '{a}'"),
        ({"sizes": 2}, "2 = any (sizes)"),
        ({"sizes": "2"}, "2 = any (sizes)"),
        ({"sizes": {"contains": [3, 1]}}, "sizes @> '{1,3}'"),
        ({"days": "2020-02-29"}, "date '2020-02-29' = any (days)"),
        ({"moods": ["sad", "calm"]}, "moods && '{sad,calm}'::mood[]"),
        ({"codes": "00000000-0000-0000-0000-00000000000A"}, "id = 1"),
        ({"prices": 3.5}, "3.50 = any (prices)"),
        ({"flags": [False]}, "false = any (flags)"),
        ({"docs": {"contains": {"a": 1}}}, "'{\"a\": 1}' = any (docs)"),
        ({"docs": {"contains": [[1]]}}, "'[1]' = any (docs)"),
        # Jsonb columns.
        ({"extra": {"contains": {"author": {"name": "Ann"}}}}, "id = 1"),
        ({"extra": {"contains": {"scores": [2.5]}}}, "id = 1"),
        ({"extra": {"contains": []}}, "id in (7, 14)"),
        ({"extra": {"contains": None}}, "extra = 'null'"),
        ({"extra": {"has_key": "author"}}, "extra ? 'author'"),
        ({"extra": {"eq": {}}}, "extra = '{}'"),
        ({"extra": "Ann"}, "id = 8"),
        ({"extra": [{}, []]}, "id in (6, 7)"),
        ({"extra": None}, "extra is null"),
        ({"raw": {"eq": {}}}, "id = 6"),
        ({"raw": {"has_key": "n"}}, "id in (1, 2, 3, 4, 5, 11, 12, 13)"),
        ({"raw": {"like": '%"Ann"%'}}, "raw::text like '%\"Ann\"%'"),
        ({"profile": {"contains": {"n": 1}}}, "id in (1, 2)"),
        # Paths.
        ({"extra.author.name": "Ann"}, "id = 1"),
        ({"profile.author.name": "Ann"}, "id = 1"),
        ({"raw.author.name": "Ann"}, "id = 1"),
        ({"extra.author.name": {"ne": "Ann"}}, "id in (2, 11)"),
        ({"not": {"extra.author.name": "Ann"}}, "id in (2, 11)"),
        (
            {"extra.author.name": {"gt": "Ann"}},
            "extra #>> '{author,name}' > 'Ann' and id in (2, 11)",
        ),
        ({"extra.author.name": ["Ann", "bob"]}, "id in (1, 2)"),
        ({"extra.author.name": ["Ann", None]}, "id not in (2, 11, 12, 13)"),
        ({"extra.author.name": {"nin": ["Ann"]}}, "id in (2, 11)"),
        ({"extra.author.name": {"nin": ["bob", None]}}, "id in (1, 11)"),
        ({"extra.author.name": {"like": "100\\%%"}}, "id = 11"),
        ({"extra.author.name": {"ilike": "B%"}}, "id = 2"),
        ({"extra.author.name": {"has_key": "first"}}, "id = 13"),
        ({"extra.author.name": {"eq": {"first": "Ann"}}}, "id = 13"),
        ({"extra.author": {"contains": {"age": 41}}}, "id = 1"),
        ({"extra.author": {"contains": [{"name": "Ann"}]}}, "id = 5"),
        ({"extra.author.age": {"lt": 41}}, "id = 2"),
        ({"extra.author.age": {"between": [17, 41]}}, "id in (1, 2)"),
        ({"extra.n": 1}, "id in (1, 2)"),
        ({"extra.n": "1"}, "id = 3"),
        ({"extra.n": True}, "id = 4"),
        ({"extra.n": {"ne": 1}}, "id in (11, 12)"),
        ({"extra.n": {"lt": 1}}, "id = 12"),
        ({"extra.n": [1, "1", True]}, "id in (1, 2, 3, 4)"),
        ({"extra.n": []}, "false"),
        ({"extra.n": {"nin": []}}, "true"),
        ({"extra.n": None}, "id in (5, 6, 7, 8, 9, 10, 14, 91, 92)"),
        ({"extra.n": {"is_null": False}}, "id in (1, 2, 3, 4, 11, 12, 13)"),
        ({"extra.open": {"gte": False}}, "id in (1, 2)"),
        ({"extra.scores.0": 1}, "id in (1, 3)"),
        ({"extra.scores.-1": 2}, "id = 2"),
        ({"extra.scores": {"contains": [2.5]}}, "id = 1"),
        ({"extra.scores": {"contains": 2}}, "id = 2"),
        ({"extra.scores.0.name": "Ann"}, "id = 13"),
        ({"extra.0.n": 1}, "id = 14"),
        ({"extra.title": "inner"}, "id = 2"),
        ({"profile.title": "inner"}, "id = 1"),
        ({"raw.n": {"gt": 0}}, "id in (1, 2, 11)"),
        # Types with input of their own.
        ({"added": "2020-02-29"}, "added = '2020-02-29'"),
        ({"added": {"between": ["2020-01-01", "infinity"]}}, "added >= '2020-01-01'"),
        ({"seen": "2024-05-01T10:00:00Z"}, "id in (1, 2)"),
        ({"seen": {"lt": "2024-05-01 12:00:00+02:00"}}, "id = 3"),
        ({"price": 3.5}, "price = 3.50"),
        ({"price": {"gt": "3.49"}}, "price > 3.49"),
        ({"mood": "sad"}, "mood = 'sad'"),
        ({"mood": {"gte": "calm"}}, "mood in ('calm', 'glad')"),
        ({"code": "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"}, "id = 4"),
        ({"flag": False}, "not flag"),
        ({"grade": {"gte": 2}}, "grade >= 2"),
        ({"span": "[1,4]"}, "span = '[1,5)'"),
        ({"span": {"lt": "[1,5)"}}, "span < '[1,5)'"),
        ({"span": ["empty", "(,2]"]}, "id in (2, 3)"),
    ],
)
def test_operator_by_operator_on_every_type(
    shelf: Connection, conditions: Any, by_hand: str
) -> None:
    """Arrays, json, paths and other types: each operator finds what one would write by hand."""
    expected = column(shelf, f"select id from shelf where {by_hand} order by id".encode())
    assert found(shelf, conditions, "shelf") == expected


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
        {"t": "x"},
        {"t": {"in": [["x", "y"], []]}},
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
    """Citext, alone or in arrays, compares without case beyond pgembed's search path too."""
    available = "select count(*) from pg_available_extensions where name = 'citext'"
    if not scalar(shared, available):
        pytest.skip("this server has no citext")
    shared.execute("create schema apart")
    shared.execute("create extension citext schema apart")
    shared.execute("alter table papers add mail apart.citext, add mails apart.citext[]")
    shared.execute("update papers set mail = 'Ann@x.org', mails = '{Ann@x.org,b}' where id = 5")
    for value in ("ann@X.org", ["ANN@x.org"], {"between": ["ANN@x.org", "ann@x.org"]}):
        assert found(shared, {"mail": value}) == [5]
    assert found(shared, {"mail": {"nin": ["ANN@x.org"]}}) == []
    assert found(shared, {"mail": {"ne": "ANN@x.org"}}) == []
    for value in ("ann@X.org", ["ANN@x.org", "z"], {"eq": ["ann@x.org", "B"]}):
        assert found(shared, {"mails": value}) == [5]


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


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ({"sizes": "x"}, ('"x"', "the elements of column sizes", "integer")),
        ({"sizes": {"contains": [1, 2.5]}}, ("2.5", "the elements of column sizes")),
        ({"sizes": {"eq": 1}}, ("column sizes is an array", "overlaps")),
        ({"sizes": {"in": [1]}}, ("column sizes is an array",)),
        ({"sizes": {"overlaps": 1}}, ("overlaps of column sizes takes an array",)),
        ({"sizes": {"contains": None}}, ("not with null", '{"sizes": null}')),
        ({"sizes": {"contains": [1, None]}}, ("not with null",)),
        ({"sizes": {"eq": [[1]]}}, ("the elements of column sizes", "one value")),
        ({"sizes": {"has_key": "a"}}, ("has_key", "contains, overlaps")),
        ({"moods": "angry"}, ('"angry"', "mood")),
        ({"spot": "(1,2)"}, ("spot does not compare", "point = point")),
        ({"spot": {"in": ["(1,2)"]}}, ("spot does not compare",)),
        ({"spots": "(1,2)"}, ("spots does not compare",)),
        ({"raws": {"contains": [{}]}}, ("raws does not compare",)),
        ({"mood": {"contains": "sad"}}, ("no filter operator 'contains'", "jsonb has_key")),
        ({"extra": {"overlaps": [1]}}, ("no filter operator 'overlaps'", "contains, has_key")),
        ({"extra": {"has_key": 1}}, ("has_key of column extra takes a string",)),
        ({"extra.n": {"nope": 1}}, ('path "extra.n"', "has_key")),
        ({"extra.n": {"lt": {}}}, ("numbers, strings or booleans", "{}")),
        ({"extra.n": {"lt": None}}, ("not with null", '{"extra.n": null}')),
        ({"extra.n": {"between": [1, "2"]}}, ("two values of one type",)),
        ({"extra.n": {"between": [1, None]}}, ("not with null",)),
        ({"extra.n": {"in": 1}}, ("takes an array",)),
        ({"extra.n": {"like": 1}}, ("takes a string",)),
        ({"extra.n": {"like": "x\\"}}, ("escape",)),
        ({"extra.": 1}, ("empty segment", "contains")),
        ({"extra..n": 1}, ("empty segment",)),
        ({"extra.n.": 1}, ("empty segment",)),
        ({"extra" + ".n" * 17: 1}, ("more than 16 segments",)),
        ({"mood.n": 1}, ("'mood.n'", "does not exist", "jsonb or json")),
        ({"nope.n": 1}, ("'nope.n'", "does not exist")),
        ({".n": 1}, ("'.n'", "does not exist")),
    ],
)
def test_wrong_condition_is_named(
    shelf: Connection, conditions: Any, said: tuple[str, ...]
) -> None:
    """On arrays, json and paths the error says what is wrong, before any row is read."""
    shelf.execute("alter table shelf add spot point, add spots point[], add raws json[]")
    statement = "select pgembed.compile_filter('shelf', %s)"
    error = str(refused(shelf, FilterError, statement, (Jsonb(conditions),)))
    assert all(part in error for part in said)


def test_longest_column_takes_the_path(shelf: Connection) -> None:
    """A column of that very name comes first, then the json column with the longest name."""
    shelf.execute('alter table shelf add "extra.author" jsonb, add "extra.n.x" int')
    shelf.execute("""update shelf set "extra.author" = '{"name": "Zoe"}' where id = 4""")
    shelf.execute('update shelf set "extra.n.x" = 1 where id = 5')
    assert found(shelf, {"extra.author.name": "Zoe"}, "shelf") == [4]
    assert found(shelf, {"extra.author.name": "Ann"}, "shelf") == []
    assert found(shelf, {"extra.n": "1"}, "shelf") == [3]
    assert found(shelf, {"extra.n.x": 1}, "shelf") == [5]


def test_paths_are_served_by_an_index(shelf: Connection) -> None:
    """A GIN index on the jsonb column serves eq, in and contains on paths of keys."""
    shelf.execute("create table indexed as select id, extra from shelf")
    shelf.execute("create index on indexed using gin (extra)")
    shelf.execute("set local enable_seqscan = off")
    for conditions in (
        {"extra.author.name": "Ann"},
        {"extra.author.name": ["Ann", "bob"]},
        {"extra.author": {"contains": {"name": "Ann"}}},
        {"and": [{"extra.n": 1}, {"not": {"id": 2}}]},
    ):
        condition = compiled(shelf, conditions, "indexed")
        plan = column(shelf, f"explain select id from indexed as s where {condition}".encode())
        assert any("Bitmap Index Scan" in line for line in plan), condition
        assert 1 in found(shelf, conditions, "indexed")


def test_null_semantics_of_not(shelf: Connection) -> None:
    """Where a path is missing, null or of another type, neither a filter nor its not matches."""
    for conditions in ({"extra.n": 1}, {"extra.n": {"lt": 5}}, {"extra.n": {"nin": [1]}}):
        either = {"or": [conditions, {"not": conditions}]}
        assert found(shelf, either, "shelf") == [1, 2, 11, 12]
        assert found(shelf, {"not": {"not": conditions}}, "shelf") == found(
            shelf, conditions, "shelf"
        )


def test_size_is_limited(shelf: Connection) -> None:
    """100,000 bytes and 1,000 conditions compile; one more of either is refused."""
    wide = {"extra.title": "x" * (100_000 - len('{"extra.title": ""}'))}
    assert found(shelf, wide, "shelf") == []
    longer = {"extra.title": wide["extra.title"] + "x"}
    statement = "select pgembed.compile_filter('shelf', %s, 's', %s)"
    for depth in (0, 1, -1, None):
        refused(shelf, FilterError, statement, (Jsonb(longer), depth))
    assert found(shelf, {"or": [{"id": n} for n in range(1_000)]}, "shelf")
    for conditions in (
        {"or": [{"id": n} for n in range(1_001)]},
        {"not": {"and": [{"id": {"gt": 0, "lt": 9}}] * 501}},
        {"or": [{"or": [{"id": 1}] * 600}, {"id": 1, "and": [{"not": {"id": 1}}] * 600}]},
    ):
        error = refused(shelf, FilterError, statement, (Jsonb(conditions), 0))
        assert "more than 1000" in str(error)


def test_predicate_is_not_much_longer_than_its_filter(shelf: Connection) -> None:
    """A long path with many values, which each could repeat it, does not grow beyond measure."""
    conditions = {"extra." + "k" * 40_000: list(range(10_000))}
    assert len(compiled(shelf, conditions, "shelf")) < 500_000


def test_many_empty_filters(shelf: Connection) -> None:
    """Filters without conditions are not counted, and thousands of them compile and run."""
    assert found(shelf, {"or": [{}] * 20_000}, "shelf")
    assert found(shelf, {"and": [{"or": []}] * 8_000}, "shelf") == []


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

"""pgembed.search."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.types.json import Jsonb

from pgembed.database import Connection, connect
from pgembed.errors import FilterError, InputError, NotFoundError, SourceError
from pgembed.schema import migrate
from tests.conftest import with_database
from tests.sql.conftest import DIMENSIONS, ROWS
from tests.sql.filters import PAPERS, POINTS, as_json, filters, matches
from tests.sql.support import (
    as_literal,
    column,
    create_collection,
    embed,
    refused,
    register_plain_encoder,
    scalar,
    second_session,
)

QUERY = "(select embedding::vector from pgembed_data.papers where id = 6)"
ALL_PAPERS = "select * from pgembed.search('papers', {}, 1000{})"
ON_SHARED = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def hits(
    connection: Connection, collection: str, query: str, k: int, **options: Any
) -> list[tuple[Any, ...]]:
    """Rows of pgembed.search; a filter is given as Python has it."""
    if "filter" in options:
        options["filter"] = Jsonb(as_json(options["filter"]))
    named = sql.SQL("").join(
        sql.SQL(", {} => {}").format(sql.Identifier(name), sql.Placeholder(name))
        for name in options
    )
    statement = sql.SQL(
        "select * from pgembed.search(%(collection)s, %(query)s::vector, %(k)s::int{})"
    ).format(named)
    return connection.execute(
        statement, {"collection": collection, "query": query, "k": k, **options}
    ).fetchall()


def exact(
    connection: Connection, collection: str, query: str, k: int, keys: list[int]
) -> list[str]:
    """What search promises, by brute force: every chunk of the rows with these keys compared."""
    return column(
        connection,
        sql.SQL(
            "select id::text from {} where id = any (%s) group by id"
            " order by min((embedding <=> l2_normalize(%s::vector)::halfvec) + 0), id limit %s"
        ).format(sql.Identifier("pgembed_data", collection)),
        (keys, query, k),
    )


def rows_of_table(connection: Connection, table: str) -> list[dict[str, Any]]:
    """Every row of a table as a mapping."""
    with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        return cursor.execute(sql.SQL("select * from {}").format(sql.Identifier(table))).fetchall()


def random_query(seed: int, dimensions: int) -> str:
    """A vector that points anywhere."""
    return as_literal(np.random.default_rng(seed).standard_normal(dimensions))


def near_cluster(number: int) -> str:
    """A query in the direction of one cluster of ``points`` and ``books``."""
    vector = np.full(DIMENSIONS, 0.01)
    vector[number] = 1.0
    return as_literal(vector)


def plan_of(connection: Connection, collection: str, k: int, conditions: dict[str, Any]) -> str:
    """The plan that search takes."""
    return str(
        scalar(
            connection,
            "select plan from pgembed.plan_search(%s, %s::int, %s)",
            (collection, k, Jsonb(as_json(conditions))),
        )
    )


def test_search_returns_k_rows(papers: Connection) -> None:
    """Ten hits come back, ranked from 1."""
    rows = papers.execute(
        "select key, rank, score from pgembed.search('papers',"
        " (select embedding::vector from pgembed_data.papers where id = 6)) order by rank"
    ).fetchall()
    assert [rank for _, rank, _ in rows] == list(range(1, 11))
    assert rows[0][0] == "6"


@ON_SHARED
@given(
    conditions=filters(PAPERS), seed=st.integers(0, 99), k=st.integers(0, 70), hybrid=st.booleans()
)
def test_search_is_brute_force_under_any_filter(
    shared: Connection, conditions: dict[str, Any], seed: int, k: int, hybrid: bool
) -> None:
    """Whatever the filter, min(k, matching) rows come back; without words in the exact order."""
    with shared.transaction(force_rollback=True):
        shared.execute(
            "update papers set year = null, topic = null, active = null where id % 4 = 0"
        )
        keys = [row["id"] for row in rows_of_table(shared, "papers") if matches(conditions, row)]
        query = random_query(seed, 32)
        options: dict[str, Any] = {"hybrid": True, "query_text": "red car"} if hybrid else {}
        found = hits(shared, "papers", query, k, filter=conditions, **options)
        assert [hit[1] for hit in found] == list(range(1, min(k, len(keys)) + 1))
        assert {int(hit[0]) for hit in found} <= set(keys)
        if not hybrid:
            assert [hit[0] for hit in found] == exact(shared, "papers", query, k, keys)


@ON_SHARED
@given(conditions=filters(POINTS), seed=st.integers(0, 99), k=st.integers(1, 60))
def test_search_fills_k_whatever_the_plan(
    points: Connection, conditions: dict[str, Any], seed: int, k: int
) -> None:
    """On an indexed table too min(k, matching) distinct rows come back, best first."""
    keys = [row["id"] for row in rows_of_table(points, "points") if matches(conditions, row)]
    query = random_query(seed, DIMENSIONS)
    found = hits(points, "points", query, k, filter=conditions)
    assert len({hit[0] for hit in found}) == len(found) == min(k, len(keys))
    assert {int(hit[0]) for hit in found} <= set(keys)
    scores = [hit[2] for hit in found]
    assert scores == sorted(scores, reverse=True)
    if plan_of(points, "points", k, conditions) == "exact":
        assert [hit[0] for hit in found] == exact(points, "points", query, k, keys)


@pytest.mark.parametrize("wanted", [[0, 1, 2], [5, 6, 7]], ids=["correlated", "anti-correlated"])
def test_hnsw_keeps_its_recall_under_a_filter(points: Connection, wanted: list[int]) -> None:
    """Filters for or against the query's neighbourhood: k rows, nearly all of them the best."""
    conditions = {"cluster": wanted}
    keys = column(points, "select id from points where cluster = any (%s)", (wanted,))
    assert plan_of(points, "points", 20, conditions) == "hnsw"
    found = hits(points, "points", near_cluster(0), 20, filter=conditions)
    best = exact(points, "points", near_cluster(0), 20, keys)
    assert len(found) == 20
    assert len({hit[0] for hit in found} & set(best)) >= 17


def test_hnsw_that_gives_up_is_completed_exactly(points: Connection) -> None:
    """When the index scan stops before k rows, all matching rows are compared."""
    points.execute("set local hnsw.max_scan_tuples = 1")
    points.execute("set local hnsw.ef_search = 1")
    conditions = {"cluster": {"in": [5, 6, 7]}}
    keys = column(points, "select id from points where cluster in (5, 6, 7)")
    found = hits(points, "points", near_cluster(0), 200, filter=conditions)
    assert plan_of(points, "points", 200, conditions) == "exact"
    assert len(hits(points, "points", near_cluster(0), 50, filter=conditions)) == 50
    assert [hit[0] for hit in found] == exact(points, "points", near_cluster(0), 200, keys)


def test_k_counts_rows_not_chunks(points: Connection) -> None:
    """The 500 nearest chunks are of three books: still k books come back, each once."""
    assert plan_of(points, "books", 10, {}) == "hnsw"
    for k in (3, 10, 100, 400, 1_000):
        found = hits(points, "books", near_cluster(0), k)
        assert len({hit[0] for hit in found}) == len(found) == min(k, 400)
        assert {hit[0] for hit in found[:3]} == {"1", "2", "3"}


def test_hit_shows_the_best_chunk(points: Connection) -> None:
    """chunk_no and content are of the chunk that the score is of."""
    for key, _, score, chunk_no, content, dense, lexical, fields, _ in hits(
        points, "books", near_cluster(2), 20
    ):
        assert content == f"chunk {chunk_no}"
        nearest = scalar(
            points,
            "select max(1 - (embedding <=> l2_normalize(%s::vector)::halfvec))"
            " from pgembed_data.books where id = %s",
            (near_cluster(2), key),
        )
        assert score == dense == pytest.approx(nearest, abs=1e-6)
        assert lexical is None
        assert fields is None


def test_k_is_zero_or_more(shared: Connection) -> None:
    """K = 0 returns nothing, a k beyond the table all of it; negative and null are refused."""
    assert hits(shared, "papers", random_query(1, 32), 0) == []
    assert len(hits(shared, "papers", random_query(1, 32), 1_000_000)) == 60
    assert len(hits(shared, "papers", random_query(1, 32), 2_147_483_647)) == 60
    for k in ("-1", "null::int"):
        error = refused(shared, InputError, f"select pgembed.search('papers', {QUERY}, {k})")
        assert "0 or more" in str(error)


def test_query_must_fit_the_collection(shared: Connection) -> None:
    """Null, wrong dimensions, zero: each is refused with what is wrong; so is NaN, by pgvector."""
    for query, said in {
        "null::vector": "the query vector is null",
        "'[1, 2, 3]'::vector": "has 3 dimensions; collection 'papers' has 32",
        "array_fill(0, '{32}')::vector": "zero",
    }.items():
        assert said in str(refused(shared, InputError, f"select pgembed.search('papers', {query})"))
    for number in ("NaN", "Infinity"):
        with pytest.raises(psycopg.DataError, match="not allowed"), shared.transaction():
            shared.execute(
                "select pgembed.search('papers', array_fill(%s::real, '{32}')::vector)", (number,)
            )


def test_only_the_direction_of_a_query_counts(shared: Connection) -> None:
    """Vectors that half precision cannot hold, long or short, find what their unit vector finds."""
    expected = shared.execute(ALL_PAPERS.format(QUERY, "")).fetchall()
    for factor in ("1e-9", "1e6", "1e30"):
        scaled = f"(select array_agg(x * {factor}::real)::vector from unnest({QUERY}::real[]) as x)"
        found = shared.execute(ALL_PAPERS.format(scaled, "")).fetchall()
        assert [hit[0] for hit in found] == [hit[0] for hit in expected]
        assert [hit[2] for hit in found] == pytest.approx([hit[2] for hit in expected], abs=1e-3)


def test_unknown_collection_is_named(shared: Connection) -> None:
    """The error names the collection and those that exist."""
    error = refused(shared, NotFoundError, f"select pgembed.search('pappers', {QUERY})")
    assert "'pappers'" in str(error)
    assert "'papers'" in str(error.hint)


def test_filter_is_checked(shared: Connection) -> None:
    """An unknown column is refused, not ignored."""
    statement = f"select pgembed.search('papers', {QUERY}, filter => '{{\"nope\": 1}}')"
    assert "nope" in str(refused(shared, FilterError, statement))


def test_lost_content_column_is_reported(shared: Connection) -> None:
    """After a rename of a content column search says so, and how to go on."""
    shared.execute("alter table papers rename abstract to summary")
    error = refused(shared, SourceError, f"select pgembed.search('papers', {QUERY})")
    assert "abstract" in str(error)
    assert "set_content" in str(error.hint)


@pytest.fixture
def reader(points: Connection) -> Connection:
    """A role that may search, and sees a part of ``papers`` and ``points``."""
    points.execute("create role pgembed_test_reader")
    points.execute("grant usage on schema pgembed, pgembed_data to pgembed_test_reader")
    points.execute("grant select on all tables in schema pgembed to pgembed_test_reader")
    points.execute("grant select on all tables in schema pgembed_data to pgembed_test_reader")
    for table in ("papers", "points"):
        points.execute(f"grant select on {table} to pgembed_test_reader")
        points.execute(f"alter table {table} enable row level security")
    points.execute("create policy part on papers using (id <= 7)")
    points.execute("create policy part on points using (cluster in (5, 6, 7))")
    points.execute("set local role pgembed_test_reader")
    return points


def test_policies_hold(reader: Connection) -> None:
    """A role finds the rows that its policies show, and min(k, those that match) of them."""
    assert {hit[0] for hit in hits(reader, "papers", random_query(3, 32), 60)} == set("1234567")
    lexical = hits(
        reader, "papers", random_query(3, 32), 60, hybrid=True, query_text="apple pear car train"
    )
    assert {hit[0] for hit in lexical} == set("1234567")
    found = hits(reader, "papers", random_query(3, 32), 3, filter={"id": {"gte": 6}})
    assert {hit[0] for hit in found} == {"6", "7"}


def test_policies_hold_with_the_index(reader: Connection) -> None:
    """The nearest 500 points are hidden from this role: it gets k of the others."""
    assert plan_of(reader, "points", 20, {}) == "hnsw"
    found = hits(reader, "points", near_cluster(0), 20)
    assert len(found) == 20
    assert {(int(hit[0]) - 1) % 8 for hit in found} <= {5, 6, 7}


def test_words_lift_a_row_that_dense_ranks_low(shared: Connection) -> None:
    """A hybrid search finds a rare word although its vector is far from the query's."""
    far, query = shared.execute(
        "select (array_agg(d.id order by d.embedding <=> q.embedding desc))[1], q.embedding::text"
        " from pgembed_data.papers as d, (select embedding from pgembed_data.papers where id = 6) as q"
        " group by q.embedding::text"
    ).fetchone() or (0, "")
    shared.execute("update papers set title = 'zyzzyva sighted' where id = %s", (far,))
    shared.execute(
        "update pgembed_data.papers set content = 'zyzzyva sighted', bm25 = null where id = %s",
        (far,),
    )
    shared.execute("select pgembed.refresh('papers')")
    dense = [int(hit[0]) for hit in hits(shared, "papers", query, 60)]
    assert dense.index(far) > 50
    hybrid = hits(shared, "papers", query, 5, hybrid=True, query_text="zyzzyva", lexical_weight=0.6)
    assert int(hybrid[0][0]) == far
    assert hybrid[0][6] > 0


def test_stop_words_alone_search_by_vector(shared: Connection) -> None:
    """A hybrid query without a word to look for gives the dense hits, in their order."""
    dense = hits(shared, "papers", random_query(4, 32), 7)
    for words in ("", "the of and", "  \n", "?!"):
        found = hits(shared, "papers", random_query(4, 32), 7, hybrid=True, query_text=words)
        assert [(hit[0], hit[5], hit[6]) for hit in found] == [(hit[0], hit[5], 0) for hit in dense]


@pytest.mark.parametrize(
    "noise",
    ["'", "''", "\\", "\\'", "& | ! : * < > ( )", "<->", ":*", "!", "' | '", "$$", "%", "\t\n"],
)
def test_hostile_words_change_nothing(shared: Connection, noise: str) -> None:
    """Quotes, backslashes and operators of tsquery around a word are no operators."""
    query = random_query(5, 32)
    plain = hits(shared, "papers", query, 60, hybrid=True, query_text="apple ocean")
    hostile = f"{noise} apple {noise} ocean {noise}"
    assert hits(shared, "papers", query, 60, hybrid=True, query_text=hostile) == plain
    assert (
        len(hits(shared, "papers", query, 60, hybrid=True, query_text=f"{noise}apple{noise}")) == 60
    )


def test_lexical_weight_runs_from_dense_to_words(shared: Connection) -> None:
    """Weight 0 is the dense order; 1 puts the rows with the word first; others are refused."""
    query = random_query(6, 32)
    options: dict[str, Any] = {"hybrid": True, "query_text": "ocean"}
    dense = [hit[0] for hit in hits(shared, "papers", query, 60)]
    assert [
        hit[0] for hit in hits(shared, "papers", query, 60, lexical_weight=0.0, **options)
    ] == dense
    words = hits(shared, "papers", query, 60, lexical_weight=1.0, **options)
    assert all("ocean" in hit[4] for hit in words[:10])
    assert not any("ocean" in hit[4] for hit in words[10:])
    for weight in ("-0.1", "1.1", "'NaN'"):
        statement = (
            f"select pgembed.search('papers', {QUERY}, hybrid => true, query_text => 'a',"
            f" lexical_weight => {weight})"
        )
        assert "between 0 and 1" in str(refused(shared, InputError, statement))


def test_hybrid_needs_words(shared: Connection) -> None:
    """A hybrid search without query_text is refused."""
    statement = f"select pgembed.search('papers', {QUERY}, hybrid => true)"
    assert "query_text" in str(refused(shared, InputError, statement))


def test_settings_of_the_caller_stay(points: Connection) -> None:
    """Search leaves the settings that it needs as the caller had them, in the transaction too."""
    names = ("hnsw.ef_search", "hnsw.iterative_scan", "search_path", "timezone", "datestyle")
    changed = {"hnsw.ef_search": "77", "search_path": "public", "timezone": "Asia/Tokyo"}
    points.execute("select '[1]'::vector")  # loads the library, and with it the settings
    for settings_of_caller in ({}, changed):
        for name, value in settings_of_caller.items():
            points.execute("select set_config(%s, %s, false)", (name, value))
        before = [scalar(points, "select current_setting(%s)", (name,)) for name in names]
        hits(points, "points", near_cluster(0), 10)
        hits(points, "points", near_cluster(0), 10, hybrid=True, query_text="chunk")
        after = [scalar(points, "select current_setting(%s)", (name,)) for name in names]
        assert after == before


def test_search_only_reads(points: Connection) -> None:
    """A read-only transaction, such as on a standby, can search by every plan."""
    points.execute("set transaction read only")
    assert len(hits(points, "points", near_cluster(0), 10)) == 10
    assert len(hits(points, "papers", random_query(1, 32), 10, hybrid=True, query_text="red")) == 10


def test_keys_of_several_columns(shared: Connection) -> None:
    """A composite key is a json array of texts, and filters reach the key's columns."""
    shared.execute(
        "create table editions (isbn text, language char(2), body text, primary key (isbn, language))"
    )
    shared.execute("insert into editions values ('a \"b\"', 'en', 'one'), ('c', 'de', 'two')")
    create_collection(shared, "editions", "editions", ["body"])
    embed(shared, "editions")
    found = hits(shared, "editions", random_query(1, 32), 5, hybrid=True, query_text="two")
    assert sorted(hit[0] for hit in found) == ['["a \\"b\\"", "en"]', '["c", "de"]']
    found = hits(shared, "editions", random_query(1, 32), 5, filter={"language": "de"})
    assert [hit[0] for hit in found] == ['["c", "de"]']


def test_keys_have_one_text(shared: Connection) -> None:
    """Time stamps and bytes as keys read the same whatever the caller's settings are."""
    shared.execute("create table events (at timestamptz, b bytea, body text, primary key (at, b))")
    shared.execute(r"insert into events values ('2020-03-01 12:00+00', '\x00ff', 'hello')")
    create_collection(shared, "events", "events", ["body"])
    shared.execute("set local timezone = 'Asia/Tokyo'")
    shared.execute("set local datestyle = 'German, DMY'")
    shared.execute("set local bytea_output = 'escape'")
    assert embed(shared, "events") == 1
    found = hits(shared, "events", random_query(1, 32), 1)
    assert found[0][0] == '["2020-03-01 12:00:00+00", "\\\\x00ff"]'


def test_rows_without_text_are_not_found(shared: Connection) -> None:
    """A row whose content columns are all empty has no chunk, and is no hit."""
    shared.execute("create table notes (id int primary key, body text)")
    shared.execute("insert into notes values (1, null), (2, ''), (3, 'text')")
    create_collection(shared, "notes", "notes", ["body"])
    embed(shared, "notes")
    assert [hit[0] for hit in hits(shared, "notes", random_query(1, 32), 10)] == ["3"]


def test_pgvector_may_live_elsewhere(database_url: str) -> None:
    """With pgvector in a schema of its own, a caller whose search path lacks it can search."""
    name = "pgembed_test_elsewhere"
    with psycopg.connect(database_url, autocommit=True) as server:
        server.execute(f"drop database if exists {name} with (force)")
        server.execute(f"create database {name}")
        url = with_database(database_url, name)
        try:
            with connect(url) as connection:
                connection.execute("create schema extensions")
                connection.execute("create extension vector schema extensions")
                migrate(url)
                connection.execute("set search_path = public")
                connection.execute("create table notes (id int primary key, body text)")
                connection.execute(
                    "insert into notes select n, 'word ' || n from generate_series(1, 5) as n"
                )
                register_plain_encoder(connection)
                create_collection(connection, "notes", "notes", ["body"], encoder="plain")
                connection.execute("set search_path = public, extensions")
                connection.execute(
                    "insert into pgembed_data.notes (id, chunk_no, content, span, content_hash, embedding)"
                    " select id, 0, body, '[0,1)', '', format('[%s,1,0,0]', id)::halfvec from notes"
                )
                connection.execute("set search_path = public")
                connection.execute("select pgembed.build_index('notes')")
                found = column(
                    connection,
                    "select key from pgembed.search('notes', pgembed.as_vector('{1,0,0,0}'), 3,"
                    ' \'{"body": {"like": "word%"}}\', true, \'word\')',
                )
                assert found == ["5", "4", "3"]
                # And it may move, when pgembed is migrated again.
                connection.execute("create schema elsewhere")
                connection.execute("alter extension vector set schema elsewhere")
                migrate(url)
                connection.execute("discard plans")
                assert (
                    column(
                        connection,
                        "select key from pgembed.search('notes', pgembed.as_vector('{1,0,0,0}'), 3)",
                    )
                    == found
                )
        finally:
            server.execute(f"drop database {name} with (force)")


def test_points_are_what_these_tests_think(points: Connection) -> None:
    """The tables that the tests above search have the size that makes the index worthwhile."""
    assert scalar(points, "select count(*) from pgembed_data.points") == ROWS
    assert scalar(points, "select count(*) from pgembed_data.books") == ROWS
    assert scalar(points, "select count(distinct id) from pgembed_data.books") == 400


def test_rows_that_are_deleted_meanwhile_shorten_no_search(papers: Connection) -> None:
    """All parts of a search see one snapshot: 20 of the 40 rows that stay, every time."""
    stop = time.monotonic() + 2
    copy = (
        "insert into pgembed_data.papers (id, chunk_no, content, span, content_hash, embedding)"
        " select 60, 0, content, span, content_hash, embedding from pgembed_data.papers"
        " where id = 6 and chunk_no = 0 on conflict do nothing"
    )

    def flicker() -> None:
        with second_session(papers) as writer:
            while time.monotonic() < stop:
                writer.execute("delete from pgembed_data.papers where id = 60")
                writer.execute(copy)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(flicker)
        while time.monotonic() < stop:
            found = papers.execute(
                "select count(*) from pgembed.search('papers', (select embedding::vector"
                " from pgembed_data.papers where id = 6 and chunk_no = 0), 20)"
            ).fetchone()
            assert found == (20,)
        writing.result()


def test_filters_mean_what_they_mean_in_sql(papers: Connection) -> None:
    """A literal without a time zone is read in the session's own, as select would."""
    papers.execute("alter table papers add column at timestamptz")
    papers.execute("update papers set at = '2024-01-01 02:00+00' where id <= 5")
    query = (
        "select count(*) from pgembed.search('papers', (select embedding::vector from"
        ' pgembed_data.papers where id = 6 and chunk_no = 0), 60, \'{"at": {"gte": "2024-01-01"}}\')'
    )
    for zone in ("America/New_York", "UTC", "Asia/Tokyo"):
        papers.execute("select set_config('timezone', %s, false)", (zone,))
        plain = papers.execute("select count(*) from papers where at >= '2024-01-01'").fetchone()
        assert papers.execute(query).fetchone() == plain

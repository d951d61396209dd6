"""Feedback: pgembed.set_feedback, log_impression, log_click, click_judgments, router_statistics, forget_clicks."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg.types.json import Jsonb

from pgembed.database import Connection
from pgembed.errors import InputError, NotFoundError
from pgembed.judgments import DEV_SHARE, seeded_share
from tests.sql.support import column, refused, scalar

CLICK = "select pgembed.log_click('papers', %s, %s, %s)"
IMPRESSION = "select pgembed.log_impression('papers', %s, %s, %s, %s)"
HOSTILE = "'; drop table pgembed.click; -- \" \\ $$ % \u202e \U0001f34e"


@pytest.fixture
def logged(shared: Connection) -> Connection:
    """The papers, with feedback on."""
    shared.execute("select pgembed.set_feedback('papers')")
    return shared


def judgments(connection: Connection, *arguments: Any) -> list[tuple[str, str, int]]:
    """Query, key and grade of what the clicks say."""
    marks = ", ".join(["%s"] * len(arguments))
    statement = "select query, key, grade from pgembed.click_judgments('papers'"
    return connection.execute(f"{statement}{', ' if marks else ''}{marks})", arguments).fetchall()


def test_it_is_off_until_it_is_set(shared: Connection) -> None:
    """And off again when it is unset; the hint says how to set it, and what was logged stays."""
    for statement, parameters in ((CLICK, ("q", "1", 1)), (IMPRESSION, ("q", ["1"], None, ""))):
        error = refused(shared, InputError, statement, parameters)
        assert "off" in str(error)
        assert "set_feedback('papers')" in str(error.hint)
    shared.execute("select pgembed.set_feedback('papers')")
    shared.execute(CLICK, ("q", "1", 1))
    shared.execute("select pgembed.set_feedback('papers', false)")
    refused(shared, InputError, CLICK, ("q", "1", 1))
    assert judgments(shared) == [("q", "1", 3)]


def test_a_click_has_the_propensity_of_its_rank(logged: Connection) -> None:
    """1 / rank ^ eta, unless one is given."""
    logged.execute(CLICK, ("q", "1", 4))
    logged.execute("select pgembed.set_feedback('papers', eta => 2)")
    logged.execute(CLICK, ("q", "2", 4))
    logged.execute("select pgembed.log_click('papers', 'q', '3', 4, 0.7)")
    found = column(logged, "select propensity from pgembed.click order by key")
    assert found == [0.25, 0.0625, 0.7]


def test_clicks_far_down_count_more(logged: Connection) -> None:
    """Sums of 1 / propensity become grades in proportion to the greatest of the query."""
    for key, rank, times in (("first", 1, 5), ("fifth", 5, 2), ("third", 3, 1)):
        for _ in range(times):
            logged.execute(CLICK, ("q", key, rank))
    assert judgments(logged) == [("q", "fifth", 3), ("q", "first", 2), ("q", "third", 1)]
    assert judgments(logged, 2) == [("q", "fifth", 3), ("q", "first", 2)]


def test_a_small_propensity_is_clipped(logged: Connection) -> None:
    """One click on page ten does not outweigh everything."""
    logged.execute(CLICK, ("q", "deep", 100_000))
    for _ in range(10):
        logged.execute(CLICK, ("q", "top", 1))
    assert judgments(logged) == [("q", "deep", 3), ("q", "top", 3)]
    assert judgments(logged, 1, 1.0) == [("q", "top", 3), ("q", "deep", 1)]


def test_splits_are_those_of_python(logged: Connection) -> None:
    """The dev queries are those that reading the judgments would cut."""
    for number in range(200):
        logged.execute(CLICK, (f"query {number} \u00e9", "1", 1))
    rows = logged.execute("select query, split from pgembed.click_judgments('papers')").fetchall()
    assert len(rows) == 200
    for query, split in rows:
        assert split == ("dev" if seeded_share(query) < DEV_SHARE else "train")
    assert {split for _, split in rows} == {"dev", "train"}


def test_queries_that_are_measured_are_not_learned(logged: Connection) -> None:
    """Those of split test are left out, those of split dev are never train; others stay."""
    splits = "select query, split from pgembed.click_judgments('papers')"
    for number in range(40):
        logged.execute(CLICK, (f"query {number}", "1", 1))
    before = dict(logged.execute(splits).fetchall())
    train, dev = (
        [query for query, split in before.items() if split == wanted] for wanted in ("train", "dev")
    )
    judged = {train[0]: "test", dev[0]: "test", train[1]: "dev", dev[1]: "dev", dev[2]: "train"}
    for query, split in judged.items():
        logged.execute(
            "insert into pgembed.judgment (collection, query, key, grade, split)"
            " values ('papers', %s, '2', 0, %s)",
            (query, split),
        )
    after = dict(logged.execute(splits).fetchall())
    gone = {train[0], dev[0], train[1]}
    assert after == {query: split for query, split in before.items() if query not in gone}


def test_judgments_can_be_inserted_as_they_are(logged: Connection) -> None:
    """The columns are those of pgembed.judgment, and a query has one split and one domain."""
    logged.execute("select pgembed.log_click('papers', 'q', '1', 1, domain => 'a')")
    logged.execute("select pgembed.log_click('papers', 'q', '2', 9, domain => 'b')")
    logged.execute(
        "insert into pgembed.judgment (collection, query, key, grade, split, domain)"
        " select 'papers', j.* from pgembed.click_judgments('papers') as j"
    )
    found = logged.execute("select distinct split, domain from pgembed.judgment").fetchall()
    assert len(found) == 1
    assert found[0][1] == "b"


def test_a_click_marks_the_hit_that_was_shown(logged: Connection) -> None:
    """With the rank, weights and domain of the impression; the others stay unclicked."""
    arms = Jsonb({"base": 0.25, "readers": 0.75})
    search = scalar(logged, IMPRESSION, ("q", ["7", "8", "9"], arms, "d"))
    logged.execute("select pgembed.log_click('papers', 'q', '8', 2, search => %s)", (search,))
    rows = logged.execute(
        "select key, rank, propensity, clicked, domain from pgembed.click order by rank"
    ).fetchall()
    assert [(key, rank, clicked) for key, rank, _, clicked, _ in rows] == [
        ("7", 1, False),
        ("8", 2, True),
        ("9", 3, False),
    ]
    assert rows[1][2] == 0.5
    assert judgments(logged) == [("q", "8", 3)]
    for key, number in (("1", search), ("8", search + 1)):
        wrong = "select pgembed.log_click('papers', 'q', %s, 2, search => %s)"
        assert "did not show" in str(refused(logged, InputError, wrong, (key, number)))


def statistics(connection: Connection) -> dict[tuple[str, str], tuple[float, float]]:
    """Successes and trials by domain and arm."""
    rows = connection.execute("select * from pgembed.router_statistics('papers')").fetchall()
    assert all(rate == pytest.approx(won / of) for _, _, won, of, rate in rows)
    return {(domain, arm): (won, of) for domain, arm, won, of, _ in rows}


def test_statistics_count_searches_by_weight(logged: Connection) -> None:
    """An arm has the share of a search that it had in the answer; searches without weights none."""
    for clicked in (True, False):
        arms = Jsonb({"base": 0.25, "readers": 0.75})
        search = scalar(logged, IMPRESSION, ("q", ["7", "8"], arms, "d"))
        if clicked:
            logged.execute(
                "select pgembed.log_click('papers', 'q', '8', 2, search => %s)", (search,)
            )
    logged.execute(IMPRESSION, ("q", ["7"], None, "d"))
    assert statistics(logged) == {
        ("d", "base"): pytest.approx((0.25, 0.5)),
        ("d", "readers"): pytest.approx((0.75, 1.5)),
    }


def test_statistics_forget_by_half_life(logged: Connection) -> None:
    """A search two half-lives old counts a quarter; one from long ago nothing, without an error."""
    logged.execute("select pgembed.set_feedback('papers', half_life => '1 day')")
    for days in (0, 2, 300_000):
        search = scalar(logged, IMPRESSION, ("q", ["7"], Jsonb({"base": 1}), ""))
        logged.execute(
            "update pgembed.click set logged_at = now() - %s * interval '1 day' where search = %s",
            (days, search),
        )
    assert statistics(logged)["", "base"] == pytest.approx((0, 1.25))


def test_statistics_of_next_to_nothing_are_no_error(logged: Connection) -> None:
    """Numbers that float8 cannot hold, alone or multiplied, count 0."""
    arms = '{"tiny": 1e-45, "less": 1e-400, "some": 1e-20, "all": 1}'
    for days in (0, 1050, 2000 * 7):
        search = scalar(logged, IMPRESSION, ("q", ["7"], arms, ""))
        logged.execute(
            "update pgembed.click set logged_at = now() - %s * interval '1 day' where search = %s",
            (days, search),
        )
    found = column(
        logged, "select trials from pgembed.router_statistics('papers') order by arm collate \"C\""
    )
    assert found == [1 + 0.5**150, 0, pytest.approx(1e-20), 0]
    logged.execute("select pgembed.set_feedback('papers', half_life => '1 day')")
    assert len(column(logged, "select rate from pgembed.router_statistics('papers')")) == 4


def test_weights_may_be_off_by_rounding(logged: Connection) -> None:
    """A sum of shares may exceed 1 by a little, and no more."""
    logged.execute(IMPRESSION, ("q", ["7"], Jsonb({"base": 1 + 1e-9}), ""))
    refused(logged, InputError, IMPRESSION, ("q", ["7"], Jsonb({"base": 1 + 2e-9}), ""))


def test_what_was_logged_can_be_forgotten(logged: Connection) -> None:
    """Up to a time, of one collection; all of it with 'infinity', or with the collection."""
    logged.execute(CLICK, ("old", "1", 1))
    logged.execute("update pgembed.click set logged_at = '2020-01-01'")
    logged.execute(CLICK, ("new", "1", 1))
    forget = "select pgembed.forget_clicks('papers', %s)"
    assert scalar(logged, forget, ("2021-01-01",)) == 1
    assert column(logged, "select query from pgembed.click") == ["new"]
    refused(logged, InputError, forget, (None,))
    logged.execute("select pgembed.drop_collection('papers')")
    assert scalar(logged, "select count(*) from pgembed.click") == 0
    assert scalar(logged, "select count(*) from pgembed.feedback") == 0


def test_hostile_texts_are_texts(logged: Connection) -> None:
    """As query, key, domain and arm: they come back as they went in."""
    arms = Jsonb({HOSTILE: 1})
    search = scalar(logged, IMPRESSION, (HOSTILE, [HOSTILE, ""], arms, HOSTILE))
    click = "select pgembed.log_click('papers', %s, %s, 1, search => %s)"
    logged.execute(click, (HOSTILE, HOSTILE, search))
    assert judgments(logged) == [(HOSTILE, HOSTILE, 3)]
    assert set(statistics(logged)) == {(HOSTILE, HOSTILE)}
    assert scalar(logged, "select query from pgembed.click limit 1") == HOSTILE


@pytest.mark.parametrize(
    ("query", "key", "rank", "propensity", "weights"),
    [
        ("", "1", 1, None, None),
        (" \n", "1", 1, None, None),
        (None, "1", 1, None, None),
        ("nul \0", "1", 1, None, None),
        ("q", "nul \0", 1, None, None),
        ("q", None, 1, None, None),
        ("q", "1", 0, None, None),
        ("q", "1", -3, None, None),
        ("q", "1", None, None, None),
        ("q", "1", 1, 0.0, None),
        ("q", "1", 1, 1.1, None),
        ("q", "1", 1, -0.1, None),
        ("q", "1", 1, float("nan"), None),
        ("q", "1", 1, float("inf"), None),
        ("q", "1", 1, None, []),
        ("q", "1", 1, None, "base"),
        ("q", "1", 1, None, {"base": "much"}),
        ("q", "1", 1, None, {"base": 1.5}),
        ("q", "1", 1, None, {"base": -1}),
        ("q", "1", 1, None, {"base": None}),
    ],
)
def test_a_click_that_says_nothing_is_refused(
    logged: Connection, query: str, key: str, rank: int, propensity: float, weights: Any
) -> None:
    """Before anything is stored."""
    statement = "select pgembed.log_click('papers', %s, %s, %s, %s, %s)"
    given = None if weights is None else Jsonb(weights)
    refused(logged, InputError, statement, (query, key, rank, propensity, given))
    assert scalar(logged, "select count(*) from pgembed.click") == 0


@pytest.mark.parametrize("keys", [None, [], ["1", None], ["1", "1"]])
def test_an_impression_shows_different_rows(logged: Connection, keys: list[str] | None) -> None:
    """At least one, none of them null or twice."""
    refused(logged, InputError, IMPRESSION, ("q", keys, None, ""))


@pytest.mark.parametrize(
    "call",
    [
        "set_feedback('papers', null)",
        "set_feedback('papers', half_life => '0')",
        "set_feedback('papers', half_life => '-1 day')",
        "set_feedback('papers', half_life => null)",
        "set_feedback('papers', eta => -1)",
        "set_feedback('papers', eta => 'nan')",
        "click_judgments('papers', 0)",
        "click_judgments('papers', null)",
        "click_judgments('papers', 1, 0)",
        "click_judgments('papers', 1, 1.5)",
    ],
)
def test_settings_that_cannot_be_are_refused(shared: Connection, call: str) -> None:
    """With the value and what it may be."""
    refused(shared, InputError, f"select pgembed.{call}".encode())


@pytest.mark.parametrize(
    "call",
    [
        "set_feedback('nope')",
        "log_click('nope', 'q', '1', 1)",
        "log_impression('nope', 'q', '{1}')",
        "click_judgments('nope')",
        "router_statistics('nope')",
        "forget_clicks('nope', now())",
        "sample_chunks('nope')",
        "sample_texts('nope')",
        "sample_judged_queries('nope')",
    ],
)
def test_an_unknown_collection_is_named(shared: Connection, call: str) -> None:
    """With those that exist."""
    error = refused(shared, NotFoundError, f"select pgembed.{call}".encode())
    assert "papers" in str(error.hint)

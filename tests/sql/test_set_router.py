"""pgembed.set_router."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from pgembed.database import Connection
from pgembed.errors import InputError, NotFoundError
from tests.sql.support import refused, scalar

INSTALL = "select pgembed.set_router('tiny', 'pilot', %s)"


def test_versions_count_the_builds(shared: Connection) -> None:
    """Each build has the next version, and clients see another routing version."""
    version_of = "select routing_version from pgembed.describe_collection('papers')"
    versions = [scalar(shared, version_of)]
    for build in (1, 2, 3):
        assert scalar(shared, INSTALL, (Jsonb({"temperature": 0.1}),)) == build
        versions.append(scalar(shared, version_of))
    assert len(set(versions)) == 4


def test_all_tables_are_emptied(shared: Connection) -> None:
    """What was built for this encoder goes, for the caller to insert the new rows."""
    shared.execute("select pgembed.register_encoder('other', repeat('c', 64), 2, 64, 'mean', 'x')")
    tables = ("pilot", "router_domain", "router_reference", "utility")
    for encoder in ("tiny", "other"):
        shared.execute("select pgembed.set_router(%s, 'utility', '{}')", (encoder,))
        shared.execute("insert into pgembed.pilot values (%s, 'base', 'd', 1, '[1,0]')", (encoder,))
        shared.execute(
            "insert into pgembed.router_domain values (%s, 'd', '[1,0]', 0.5, 1)", (encoder,)
        )
        shared.execute(
            "insert into pgembed.router_reference values (%s, 'd', 0, '[1,0]')", (encoder,)
        )
        shared.execute(
            "insert into pgembed.utility values (%s, 'd', 'base', 0.0, 1, 1.0)", (encoder,)
        )
    scalar(shared, INSTALL, (Jsonb({}),))
    for table in tables:
        statement = sql.SQL("select array_agg(encoder) from pgembed.{}")
        assert scalar(shared, statement.format(sql.Identifier(table))) == ["other"]


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("pilot", "('tiny', 'base', 'd', 1, '[0,0]')"),
        ("pilot", "('tiny', 'base', 'd', 0, '[1,0]')"),
        ("pilot", "('tiny', 'nope', 'd', 1, '[1,0]')"),
        ("router_domain", "('tiny', 'd', null, 0, 1)"),
        ("router_domain", "('tiny', 'd', '[1,0]', 'NaN', 1)"),
        ("router_domain", "('tiny', 'd', '[1,0]', 'inf', 1)"),
        ("router_reference", "('tiny', 'd', 0, '[0,0]')"),
        ("utility", "('tiny', 'd', 'nope', 0, 1, 1)"),
        ("utility", "('tiny', 'd', 'base', 'NaN', 1, 1)"),
        ("utility", "('tiny', 'd', 'base', 0, 1, 'NaN')"),
        ("utility", "('tiny', 'd', 'base', 0, 1, 1.5)"),
        ("utility", "('tiny', 'd', 'base', 0, 1, 1e-300)"),
    ],
)
def test_rows_that_cannot_be_routed_by_are_refused(
    shared: Connection, table: str, row: str
) -> None:
    """When they are inserted, not when a query is routed."""
    scalar(shared, "select pgembed.set_router('tiny', 'utility', '{}')")
    statement = sql.SQL("insert into pgembed.{} values {}")
    with pytest.raises(psycopg.errors.IntegrityError):
        shared.execute(statement.format(sql.Identifier(table), sql.SQL(row)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "parameters",
    [
        None,
        [],
        3,
        "soft",
        {"temperature": 0},
        {"temperature": -1},
        {"temperature": "warm"},
        {"temperature": None},
        {"standing": {"base": 1.5}},
        {"standing": {"base": 0.6, "a": 0.6}},
        {"standing": {"base": -0.1}},
        {"standing": {"base": "much"}},
        {"standing": {"base": None}},
        {"standing": {"base": [0.5]}},
        {"standing": {"base": []}},
        {"standing": ["base"]},
        {"temperature": 1e-7},
        {"temperature": [1]},
        {"top": 0},
        {"top": 1.5},
        {"top": "2"},
        {"top": None},
        {"top": 10**12},
        {"minimum_share": -0.1},
        {"minimum_share": 1.1},
        {"minimum_share": "0.1"},
        {"minimum_share": None},
        {"neighbours": 0},
        {"neighbours": -1},
        {"aggregate": "sum"},
        {"aggregate": []},
        {"aggregate": ["mean"]},
        {"aggregate": None},
        {"posterior": "pilot"},
        {"posterior": []},
        {"fallback": None},
        {"fallback": 0.4},
        {"fallback": {}},
        {"fallback": {"threshold": 0.4, "width": 0.02}},
        {"fallback": {"threshold": 0.4, "weights": {"base": 1}}},
        {"fallback": {"width": 0.02, "weights": {"base": 1}}},
        {"fallback": {"threshold": "low", "width": 0.02, "weights": {"base": 1}}},
        {"fallback": {"threshold": 0.4, "width": 0, "weights": {"base": 1}}},
        {"fallback": {"threshold": 0.4, "width": 0.02, "weights": {}}},
        {"fallback": {"threshold": 0.4, "width": 0.02, "weights": {"base": 0}}},
        {"fallback": {"threshold": 0.4, "width": 0.02, "weights": {"base": -1, "a": 2}}},
    ],
)
def test_parameters_that_cannot_be_followed_are_refused(
    shared: Connection, parameters: Any
) -> None:
    """What route could not follow is not installed; the router that was there stays."""
    scalar(shared, INSTALL, (Jsonb({"temperature": 0.2}),))
    refused(shared, InputError, INSTALL, (Jsonb(parameters),))
    refused(shared, InputError, INSTALL, (None,))
    assert scalar(shared, "select parameters from pgembed.router") == {"temperature": 0.2}


@pytest.mark.parametrize("number", ["1e400", "1e-400"])
@pytest.mark.parametrize(
    "parameters",
    [
        '{"temperature": %s}',
        '{"standing": {"base": %s}}',
        '{"top": %s}',
        '{"weights": {"base": %s}}',
        '{"fallback": {"threshold": 0, "width": 1, "weights": {"base": %s}}}',
        '{"fallback": {"threshold": 0, "width": %s, "weights": {"base": 1}}}',
    ],
)
def test_numbers_beyond_double_precision_are_refused(
    shared: Connection, parameters: str, number: str
) -> None:
    """Which json can hold; as an error of ours."""
    given = parameters.replace("%s", number)
    refused(shared, InputError, "select pgembed.set_router('tiny', 'fixed', %s::jsonb)", (given,))


@pytest.mark.parametrize(
    "weights", [None, [], {}, {"base": 0}, {"base": "1"}, {"base": -1, "a": 2}]
)
def test_a_fixed_router_needs_weights(shared: Connection, weights: Any) -> None:
    """Of at least one expert; other kinds do without."""
    given = {} if weights is None else {"weights": weights}
    install = "select pgembed.set_router('tiny', %s, %s)"
    refused(shared, InputError, install, ("fixed", Jsonb(given)))
    for kind in ("pilot", "lda", "logistic", "knn", "utility", "uniform"):
        scalar(shared, install, (kind, Jsonb({})))
    scalar(shared, install, ("fixed", Jsonb({"weights": {"base": 2, "later": 1}})))


def test_rounding_does_not_matter(shared: Connection) -> None:
    """Weights that sum to 1 in decimal are accepted although they do not in binary."""
    standing = {"base": 0.1, "a": 0.2, "b": 0.7}
    assert scalar(shared, INSTALL, (Jsonb({"standing": standing}),)) == 1


def test_unknown_encoder_and_kind_are_refused(shared: Connection) -> None:
    """The encoder must exist, and the kind be one of ours."""
    refused(shared, NotFoundError, "select pgembed.set_router('nope', 'pilot', '{}')")
    error = refused(shared, InputError, "select pgembed.set_router('tiny', 'nope', '{}')")
    assert "pilot" in str(error.hint)

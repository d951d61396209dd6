"""pgembed.set_router."""

from __future__ import annotations

from typing import Any

import pytest
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


def test_pilots_are_emptied(shared: Connection) -> None:
    """The pilots of this encoder go, for the caller to insert the new ones."""
    shared.execute("select pgembed.register_encoder('other', repeat('c', 64), 2, 64, 'mean', 'x')")
    for encoder in ("tiny", "other"):
        shared.execute("insert into pgembed.pilot values (%s, 'base', 'd', 1, '[1,0]')", (encoder,))
    scalar(shared, INSTALL, (Jsonb({}),))
    assert scalar(shared, "select array_agg(encoder) from pgembed.pilot") == ["other"]


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
        {"standing": ["base"]},
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


def test_rounding_does_not_matter(shared: Connection) -> None:
    """Weights that sum to 1 in decimal are accepted although they do not in binary."""
    standing = {"base": 0.1, "a": 0.2, "b": 0.7}
    assert scalar(shared, INSTALL, (Jsonb({"standing": standing}),)) == 1


def test_unknown_encoder_and_kind_are_refused(shared: Connection) -> None:
    """The encoder must exist, and the kind be one of ours."""
    refused(shared, NotFoundError, "select pgembed.set_router('nope', 'pilot', '{}')")
    error = refused(shared, InputError, "select pgembed.set_router('tiny', 'nope', '{}')")
    assert "pilot" in str(error.hint)

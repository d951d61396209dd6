"""The commands ``pgembed calibrate`` and ``pgembed audit recall``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pgembed import auditing
from pgembed.auditing import AuditedSearch
from pgembed.database import connect
from tests.conftest import make_papers
from tests.databases import copied_database
from tests.sql.conftest import CLUSTERS, DIMENSIONS, ROWS, make_points
from tests.sql.support import register_plain_encoder
from tests.test_cli import Command, pgembed  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def planned(database_url: str, template: str) -> Iterator[str]:
    """A database with ``papers``, and with ``points``, which has an index."""
    with copied_database(database_url, template, "pgembed_test_planning") as made:
        random = np.random.default_rng(7)
        vectors = np.eye(DIMENSIONS)[np.arange(ROWS) % CLUSTERS]
        with connect(made) as connection:
            make_papers(connection)
            register_plain_encoder(connection, "plain8", DIMENSIONS)
            make_points(connection, vectors + 0.25 * random.standard_normal(vectors.shape))
        yield made


@pytest.fixture
def url(planned: str) -> Iterator[str]:
    """That database; what was measured is forgotten after each test."""
    yield planned
    with connect(planned) as connection:
        connection.execute("delete from pgembed.planner_cost")


@pytest.fixture
def asked(tmp_path: Path) -> str:
    """A file of two queries, with a blank line."""
    file = tmp_path / "queries.txt"
    file.write_text("red apple\n\nslow train\n", encoding="utf-8")
    return str(file)


# Calibrate.


def test_a_calibration_is_shown(pgembed: Command, url: str) -> None:  # noqa: F811
    """Costs and thresholds, before and after."""
    answer = pgembed("calibrate", "points", "--seconds", "0.2", url=url)
    assert answer.status == 0
    for word in ("exact_row", "index_tuple", "threshold, k = 10", "microseconds", "before"):
        assert word in answer.out


def test_a_calibration_can_be_read_by_programs(pgembed: Command, url: str) -> None:  # noqa: F811
    """All figures as json, nothing else; a second one tells what the first one measured."""
    first, second = (
        pgembed("calibrate", "points", "--seconds", "0.2", "--json", url=url) for _ in range(2)
    )
    assert first.err == ""
    assert [each["name"] for each in first.json[:2]] == ["exact_row", "index_tuple"]
    assert [each["before"] for each in first.json[:2]] == [None, None]
    assert [each["before"] for each in second.json] == [each["after"] for each in first.json]


def test_a_calibration_is_forgotten(pgembed: Command, url: str) -> None:  # noqa: F811
    """With and without something to forget; no collection is needed for it."""
    pgembed("calibrate", "points", "--seconds", "0.2", url=url)
    assert set(pgembed("calibrate", "--reset", "--json", url=url).json["forgotten"]) == {
        "exact_row",
        "index_tuple",
    }
    assert pgembed("calibrate", "--reset", "--json", url=url).json == {"forgotten": {}}
    assert "Nothing was measured" in pgembed("calibrate", "points", "--reset", url=url).out
    pgembed("calibrate", "points", "--seconds", "0.2", url=url)
    assert pgembed("calibrate", "--reset", url=url).out.startswith("Forgotten.")


def test_a_calibration_that_cannot_be_says_why(pgembed: Command, url: str) -> None:  # noqa: F811
    """Too small a collection, an unknown one, none, and no time."""
    answer = pgembed("calibrate", "papers", url=url)
    assert answer.status == 1
    assert "60 chunks" in answer.err
    assert "3000 chunks or more" in answer.err
    answer = pgembed("calibrate", "nothing", url=url)
    assert (answer.status, "nothing" in answer.err) == (1, True)
    answer = pgembed("calibrate", url=url)
    assert (answer.status, "NAME" in answer.err) == (2, True)
    answer = pgembed("calibrate", "points", "--seconds", "0", url=url)
    assert (answer.status, "seconds is 0" in answer.err) == (1, True)


# Audit.


def test_an_audit_is_shown_and_drawn(pgembed: Command, url: str, tmp_path: Path) -> None:  # noqa: F811
    """A line for each band and plan, a progress bar, and a picture."""
    picture = tmp_path / "recall.png"
    answer = pgembed(
        *("audit", "recall", "papers", "--sample", "3", "--plot", str(picture)),
        *("--filter", '{"topic": "a"}', "--filter", '{"id": 7}'),
        url=url,
    )
    assert answer.status == 0
    assert "10-50 % │ exact │ 3 │ 1.0000 │ 30 │ 30 │ 0" in answer.out
    assert "1-10 % │ exact │ 3 │ 1.0000 │ 3 │ 3 │ 0" in answer.out
    assert "Searches" in answer.err
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_audit_can_be_read_by_programs(pgembed: Command, url: str) -> None:  # noqa: F811
    """Searches through the index and exact ones, full results, and nothing but json."""
    answer = pgembed(
        *("audit", "recall", "points", "--sample", "6", "--json"),
        *("--filter", '{"id": {"lte": 3000}}', "--filter", '{"id": 7}'),
        url=url,
    )
    assert (answer.status, answer.err) == (0, "")
    wide, narrow = answer.json
    assert (wide["band"], wide["plan"], wide["searches"]) == (">= 50 %", "hnsw", 6)
    assert (narrow["band"], narrow["plan"], narrow["recall"]) == ("< 0.1 %", "exact", 1)
    assert (wide["returned"], wide["wanted"], wide["under_filled"]) == (60, 60, 0)
    assert wide["recall"] > 0.8
    assert wide["buffers"] > 0


def test_an_audit_asks_the_queries_of_a_file(pgembed: Command, url: str, asked: str) -> None:  # noqa: F811
    """Encoded and routed as a search does it, without a filter unless one is given."""
    answer = pgembed("audit", "recall", "papers", "--queries", asked, "--json", "-k", "4", url=url)
    (band,) = answer.json
    assert (band["band"], band["searches"], band["wanted"]) == ("no filter", 2, 8)


def test_an_audit_fails_below_a_recall(pgembed: Command, url: str) -> None:  # noqa: F811
    """Status 1 and the band; at or above it 0."""
    arguments = ("audit", "recall", "papers", "--sample", "3", "--at-least")
    assert pgembed(*arguments, "1", url=url).status == 0
    answer = pgembed(*arguments, "1.1", url=url)
    assert answer.status == 1
    assert "no filter (exact): recall 1.0000 is below 1.1" in answer.err


def test_an_audit_fails_for_a_short_result(
    pgembed: Command,  # noqa: F811
    url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever recall is asked for; json is printed all the same."""
    found = [AuditedSearch("no filter", "hnsw", 900, 10, rows, 0.9, 20) for rows in (8, 10)]
    monkeypatch.setattr(auditing, "audit_recall", lambda *_, **__: found)
    answer = pgembed("audit", "recall", "papers", "--json", url=url)
    assert answer.status == 1
    assert answer.json[0]["under_filled"] == 1
    assert "1 of 2 searches returned fewer rows than match" in answer.err


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("nothing",), 1, "nothing"),
        (("papers", "--filter", "{"), 1, "not json"),
        (("papers", "--filter", '{"nope": 1}'), 1, "nope"),
        (("papers", "--queries", "/nowhere/queries.txt"), 2, "cannot read"),
        (("papers", "--plot", "/nowhere/recall.png"), 1, "no such folder"),
        (("papers", "--sample", "0"), 1, "1 or more"),
    ],
)
def test_mistakes_are_named(
    pgembed: Command,  # noqa: F811
    url: str,
    arguments: tuple[str, ...],
    status: int,
    words: str,
) -> None:
    """Each by its value, none with a traceback."""
    answer = pgembed("audit", "recall", *arguments, url=url)
    assert answer.status == status
    assert words in answer.err

"""pgembed.calibrate."""

from __future__ import annotations

from typing import Any

import pytest

from pgembed.database import Connection
from pgembed.errors import InputError, NotFoundError, SourceError
from tests.sql.support import refused, scalar

NAMES = ["exact_row", "index_tuple", "threshold, k = 10", "threshold, k = 100"]

THRESHOLD = "select threshold from pgembed.plan_search('points', 100)"


def calibrated(connection: Connection, collection: str = "points") -> dict[str, dict[str, Any]]:
    """What a short calibration returns, by name."""
    rows = connection.execute(
        "select name, unit, before, after, note from pgembed.calibrate(%s, 0.2)", (collection,)
    ).fetchall()
    return {
        name: {"unit": unit, "before": before, "after": after, "note": note}
        for name, unit, before, after, note in rows
    }


def test_costs_are_kept_and_used(points: Connection) -> None:
    """Two costs and two thresholds, told with those before; searches plan by them from now on."""
    found = calibrated(points)
    assert list(found) == NAMES
    assert [each["unit"] for each in found.values()] == ["microseconds"] * 2 + ["chunks"] * 2
    assert [found[name]["before"] for name in NAMES[:2]] == [None, None]
    kept = dict(points.execute("select name, microseconds from pgembed.planner_cost").fetchall())
    assert kept == {name: found[name]["after"] for name in NAMES[:2]}
    assert scalar(points, THRESHOLD) == found["threshold, k = 100"]["after"]
    again = calibrated(points)
    assert [again[name]["before"] for name in NAMES] == [found[name]["after"] for name in NAMES]


def test_costs_are_plausible(points: Connection) -> None:
    """Whatever disturbed the measurement, their ratio is within 16 times of the usual one."""
    for collection in ("points", "books"):
        found = calibrated(points, collection)
        assert found["exact_row"]["after"] > 0
        ratio = found["index_tuple"]["after"] / found["exact_row"]["after"]
        assert 1 / 64.1 < ratio < 4.1


def test_the_threshold_follows_the_costs(points: Connection) -> None:
    """The dearer an element of the index, the more rows are compared exactly; forgetting undoes it."""
    usual = scalar(points, THRESHOLD)
    found = []
    for index_tuple in (0.02, 0.5, 4):
        points.execute("delete from pgembed.planner_cost")
        points.execute(
            "insert into pgembed.planner_cost values ('exact_row', 1), ('index_tuple', %s)",
            (index_tuple,),
        )
        found.append(scalar(points, THRESHOLD))
    assert found == sorted(set(found))
    points.execute("delete from pgembed.planner_cost")
    assert scalar(points, THRESHOLD) == usual


def test_settings_are_restored(points: Connection) -> None:
    """What it changes for its measurement is as it was."""
    settings = {
        "hnsw.ef_search": "77",
        "hnsw.iterative_scan": "strict_order",
        "enable_seqscan": "on",
    }
    for name, value in settings.items():
        points.execute("select set_config(%s, %s, true)", (name, value))
    calibrated(points)
    for name, value in settings.items():
        assert scalar(points, "select current_setting(%s)", (name,)) == value


def test_too_small_a_collection_is_refused(shared: Connection) -> None:
    """With few chunks there is nothing to measure; the hint says what to take; nothing is kept."""
    error = refused(shared, InputError, "select pgembed.calibrate('papers')")
    assert "60 chunks" in str(error)
    assert "3000 chunks or more" in str(error.hint)
    refused(shared, NotFoundError, "select pgembed.calibrate('nope')")
    assert scalar(shared, "select count(*) from pgembed.planner_cost") == 0


def test_a_collection_without_an_index_is_refused(points: Connection) -> None:
    """Half of what is measured would be missing."""
    points.execute("drop index pgembed_data.points_embedding_idx")
    error = refused(points, InputError, "select pgembed.calibrate('points')")
    assert "4000 chunks and no index" in str(error)
    points.execute("drop table points cascade")
    refused(points, SourceError, "select pgembed.calibrate('points')")


@pytest.mark.parametrize("seconds", ["0", "-1", "null", "'NaN'", "'Infinity'", "3601"])
def test_a_time_is_a_time(points: Connection, seconds: str) -> None:
    """Above 0 and at most an hour."""
    error = refused(points, InputError, f"select pgembed.calibrate('points', {seconds})")
    assert "at most 3600" in str(error)

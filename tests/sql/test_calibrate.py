"""pgembed.calibrate."""

from __future__ import annotations

from pgembed.database import Connection
from pgembed.errors import InputError, NotFoundError
from tests.sql.support import refused, scalar

THRESHOLD = "select threshold from pgembed.plan_search('points', 100)"


def test_costs_are_kept_and_used(points: Connection) -> None:
    """Two costs above 0, told with those before, of which the threshold follows."""
    first = {row[0]: row[1:] for row in points.execute("select * from pgembed.calibrate('points')")}
    assert set(first) == {"exact_row", "index_tuple"}
    assert all(before is None and now > 0 for before, now in first.values())
    second = {
        row[0]: row[1:] for row in points.execute("select * from pgembed.calibrate('points')")
    }
    assert {name: before for name, (before, _) in second.items()} == {
        name: now for name, (_, now) in first.items()
    }
    assert 1 / 21 < second["index_tuple"][1] / second["exact_row"][1] < 4.1


def test_the_threshold_follows_the_costs(points: Connection) -> None:
    """The dearer an element of the index, the more rows are compared exactly."""
    found = []
    for index_tuple in (0.1, 0.25, 4):
        points.execute("delete from pgembed.planner_cost")
        points.execute(
            "insert into pgembed.planner_cost values ('exact_row', 1), ('index_tuple', %s)",
            (index_tuple,),
        )
        found.append(scalar(points, THRESHOLD))
    assert found[0] < found[1] < found[2]
    points.execute("delete from pgembed.planner_cost")
    assert scalar(points, THRESHOLD) == found[1]


def test_settings_are_restored(points: Connection) -> None:
    """What it changes for its measurement is as it was."""
    points.execute("set local hnsw.ef_search = 77")
    points.execute("select pgembed.calibrate('points')")
    assert scalar(points, "select current_setting('hnsw.ef_search')") == "77"
    assert scalar(points, "select current_setting('hnsw.iterative_scan')") == "off"


def test_too_small_a_collection_is_refused(shared: Connection) -> None:
    """Without an index, or with few chunks, there is nothing to measure; the hint says what to take."""
    error = refused(shared, InputError, "select pgembed.calibrate('papers')")
    assert "60 chunks" in str(error)
    assert "3000 chunks or more" in str(error.hint)
    refused(shared, NotFoundError, "select pgembed.calibrate('nope')")

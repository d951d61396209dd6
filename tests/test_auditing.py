"""pgembed.auditing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pgembed.auditing import AuditedSearch, audit_recall, by_band, plot
from pgembed.database import Connection
from pgembed.errors import FilterError, InputError, NotFoundError
from pgembed.plotting import check_plot

SEARCHES = [
    AuditedSearch("1-10 %", "exact", 9, 9, 9, 1.0, 30),
    AuditedSearch("1-10 %", "hnsw", 900, 10, 8, 0.8, 10),
    AuditedSearch("1-10 %", "hnsw", 900, 10, 10, 1.0, 20),
    AuditedSearch("no filter", "hnsw", 900, 10, 10, None, 20),
]


def test_an_audit_finds_nothing_wrong_with_exact_searches(shared: Connection) -> None:
    """Each query with each filter, in the band of its share; recall 1, pages counted."""
    audited = audit_recall(
        shared, "papers", filters=[{"topic": "a"}, {"id": 7}, {"id": -1}], sample=4, k=5
    )
    assert len(audited) == 12
    assert [one.band for one in audited[::4]] == ["10-50 %", "1-10 %", "< 0.1 %"]
    assert [one.wanted for one in audited[::4]] == [5, 1, 0]
    assert all(one.recall == 1 for one in audited[:8])
    assert all(one.recall is None and one.returned == 0 for one in audited[8:])
    assert all(one.buffers > 0 for one in audited)


def test_texts_are_routed_like_any_query(shared: Connection) -> None:
    """Queries of a file are searched as search does it, and progress is told."""
    told: list[tuple[int, int]] = []
    audited = audit_recall(
        shared, "papers", queries=["red apple", "slow train"], on_progress=lambda *n: told.append(n)
    )
    assert [one.band for one in audited] == ["no filter"] * 2
    assert told == [(1, 2), (2, 2)]


def test_bands_are_summed_up() -> None:
    """By band and plan, from no filter on: mean recall, rows, short results, median pages."""
    found = by_band(SEARCHES)
    assert [(each.band, each.plan, each.searches) for each in found] == [
        ("no filter", "hnsw", 1),
        ("1-10 %", "exact", 1),
        ("1-10 %", "hnsw", 2),
    ]
    assert [each.recall for each in found] == [None, 1.0, 0.9]
    assert [(each.returned, each.wanted) for each in found] == [(10, 10), (9, 9), (18, 20)]
    assert [each.under_filled for each in found] == [0, 0, 1]
    assert [each.buffers for each in found] == [20, 30, 15]


def test_mistakes_are_named(shared: Connection) -> None:
    """Unknown collections, wrong filters and numbers, and nothing to ask."""
    with pytest.raises(NotFoundError), shared.transaction():
        audit_recall(shared, "nope")
    with pytest.raises(FilterError), shared.transaction():
        audit_recall(shared, "papers", filters=[{"nope": 1}])
    with pytest.raises(InputError, match="0 or more"), shared.transaction():
        audit_recall(shared, "papers", k=-1)
    with pytest.raises(InputError, match="1 or more"):
        audit_recall(shared, "papers", sample=0)
    with pytest.raises(InputError, match="list of them is empty"):
        audit_recall(shared, "papers", queries=[])


def test_a_plot_is_drawn(tmp_path: Path) -> None:
    """A picture in the format of the ending; a band without recall is no trouble."""
    for name, start in (("plot.png", b"\x89PNG"), ("plot.svg", b"<?xml")):
        plot(by_band(SEARCHES), tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)


def test_a_plot_that_cannot_be_drawn_says_so_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong ending, a folder that does not exist, and matplotlib missing, with the command."""
    with pytest.raises(InputError, match="no format of pictures") as raised:
        check_plot(tmp_path / "plot.nonsense")
    assert "png" in str(raised.value.hint)
    with pytest.raises(InputError, match="no such folder"):
        check_plot(tmp_path / "none" / "plot.png")
    monkeypatch.setitem(sys.modules, "matplotlib.backend_bases", None)
    with pytest.raises(InputError) as raised:
        check_plot(tmp_path / "plot.png")
    assert raised.value.hint == "pip install 'pgembed-router[plot]'"

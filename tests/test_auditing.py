"""pgembed.auditing and the commands calibrate and audit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pgembed.auditing import AuditedSearch, audit_recall, by_band, plot
from pgembed.cli.app import app
from pgembed.database import Connection
from pgembed.errors import FilterError, InputError, NotFoundError


def run(url: str, *arguments: str) -> tuple[int, str]:
    """Exit status and output of a command."""
    result = CliRunner().invoke(app, [*arguments, "--url", url], env={"COLUMNS": "200"})
    return result.exit_code, result.stdout


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
    """By band and plan: mean recall, short results, median pages."""
    found = by_band(
        [
            AuditedSearch("1-10 %", "exact", 9, 9, 9, 1.0, 30),
            AuditedSearch("1-10 %", "hnsw", 900, 10, 8, 0.8, 10),
            AuditedSearch("1-10 %", "hnsw", 900, 10, 10, 1.0, 20),
            AuditedSearch("no filter", "hnsw", 900, 10, 10, None, 20),
        ]
    )
    assert [(b.band, b.plan, b.searches, b.recall, b.under_filled, b.buffers) for b in found] == [
        ("no filter", "hnsw", 1, None, 0, 20),
        ("1-10 %", "exact", 1, 1.0, 0, 30),
        ("1-10 %", "hnsw", 2, 0.9, 1, 15),
    ]


def test_mistakes_are_named(shared: Connection, tmp_path: Path) -> None:
    """Unknown collections, wrong filters and a plot of an unknown format."""
    with pytest.raises(NotFoundError), shared.transaction():
        audit_recall(shared, "nope")
    with pytest.raises(FilterError), shared.transaction():
        audit_recall(shared, "papers", filters=[{"nope": 1}])
    with pytest.raises(InputError, match="no query"):
        audit_recall(shared, "papers", queries=[])
    with pytest.raises(InputError, match="cannot write the plot"):
        plot([], tmp_path / "plot.nonsense")


def test_the_audit_command_prints_and_plots(shared_url: str, tmp_path: Path) -> None:
    """A table or json, and a picture; the exit status follows --at-least."""
    picture = tmp_path / "recall.png"
    arguments = ["audit", "recall", "papers", "--sample", "3", "--filter", '{"topic": "a"}']
    status, out = run(shared_url, *arguments, "--plot", str(picture))
    assert status == 0
    assert "10-50 %" in out
    assert picture.read_bytes().startswith(b"\x89PNG")
    status, out = run(shared_url, *arguments, "--json", "--at-least", "0.99")
    assert status == 0
    assert json.loads(out)[0]["recall"] == 1
    assert run(shared_url, *arguments, "--at-least", "1.1")[0] == 1
    queries = tmp_path / "queries.txt"
    queries.write_text("red apple\n\nslow train\n")
    status, out = run(shared_url, *arguments, "--queries", str(queries), "--json")
    assert json.loads(out)[0]["searches"] == 2
    assert run(shared_url, *arguments, "--queries", str(tmp_path / "none.txt"))[0] == 2


def test_calibrating_too_small_a_collection_says_so(shared_url: str) -> None:
    """The error of the database, with its hint."""
    result = CliRunner().invoke(app, ["calibrate", "papers", "--url", shared_url])
    assert isinstance(result.exception, InputError)
    assert "60 chunks" in str(result.exception)

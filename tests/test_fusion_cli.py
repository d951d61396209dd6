"""The commands ``pgembed fusion fit``, ``show`` and ``reset``."""

from __future__ import annotations

import pytest

from pgembed.database import connect
from pgembed.judgments import add_judgments
from pgembed.model import Judgment
from tests.test_cli import Command, copied, papers_url, pgembed, url  # noqa: F401 - fixtures


@pytest.fixture
def judged_url(papers_url: str) -> str:  # noqa: F811
    """``papers`` with dev queries that words alone answer."""
    with connect(papers_url) as connection:
        asked = [Judgment(f"number {n}", str(n), split="dev") for n in range(1, 41)]
        add_judgments(connection, "papers", asked)
    return papers_url


def test_a_fusion_is_fitted_and_shown(pgembed: Command, judged_url: str) -> None:  # noqa: F811
    """Each arm, each fusion, what was chosen, and that it serves now."""
    answer = pgembed("fusion", "fit", "papers", url=judged_url)
    assert answer.status == 0
    assert "nDCG@10 on 40 dev queries" in answer.out
    for system in ("dense arm alone", "lexical arm alone", "reciprocal ranks", "z-scores"):
        assert system in answer.out
    assert "lexical weight" in answer.out
    assert ", installed: " in answer.out
    assert "Fitting the fusion" in answer.err
    assert " 40 " in pgembed("fusion", "show", url=judged_url).out


def test_a_fit_can_be_read_by_programs(pgembed: Command, judged_url: str) -> None:  # noqa: F811
    """All figures as json, nothing else on either stream; what is shown agrees."""
    answer = pgembed("fusion", "fit", "papers", "--mode", "base", "--json", url=judged_url)
    assert answer.err == ""
    assert answer.json["installed"] is True
    assert answer.json["queries"] == 40
    assert set(answer.json["gain"]) == {"mean", "low", "high", "p"}
    (shown,) = pgembed("fusion", "show", "papers", "--json", url=judged_url).json
    assert shown["lexical_weight"] == answer.json["lexical_weight"]
    assert shown["metrics"]["mode"] == "base"


def test_a_dry_run_installs_nothing(pgembed: Command, judged_url: str) -> None:  # noqa: F811
    """It measures."""
    assert "not installed" in pgembed("fusion", "fit", "papers", "--dry-run", url=judged_url).out
    assert "default" in pgembed("fusion", "show", "papers", url=judged_url).out


def test_a_fusion_is_reset(pgembed: Command, judged_url: str) -> None:  # noqa: F811
    """What needs no judgments serves again; doing it twice is no error."""
    pgembed("fusion", "fit", "papers", url=judged_url)
    for _ in range(2):
        answer = pgembed("fusion", "reset", "papers", url=judged_url)
        assert answer.out == "Hybrid searches of papers use zscore, lexical weight 0.3."
    assert "default" in pgembed("fusion", "show", "papers", url=judged_url).out
    reset = pgembed("fusion", "reset", "papers", "--json", url=judged_url).json
    assert reset == {"collection": "papers", "kind": "zscore", "lexical_weight": 0.3}


def test_a_collection_without_judgments_is_told_so(pgembed: Command, papers_url: str) -> None:  # noqa: F811
    """With the way out, and exit status 1."""
    answer = pgembed("fusion", "fit", "papers", url=papers_url)
    assert answer.status == 1
    assert "has no judgments" in answer.err


@pytest.mark.parametrize("command", ["fit", "show", "reset"])
def test_an_unknown_collection_is_refused(
    pgembed: Command,  # noqa: F811
    papers_url: str,  # noqa: F811
    command: str,
) -> None:
    """By name."""
    answer = pgembed("fusion", command, "nothing", url=papers_url)
    assert answer.status == 1
    assert "nothing" in answer.err

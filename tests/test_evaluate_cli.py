"""The command ``pgembed evaluate``."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pgembed.cli.evaluate import print_systems
from pgembed.database import connect
from pgembed.experts import register_expert
from pgembed.judgments import add_judgments
from pgembed.linear_expert import LinearExpert
from pgembed.metrics import ndcg_at_k
from pgembed.model import Judgment
from pgembed.registry import registered_encoder
from pgembed.searching import search
from pgembed.system_scores import SystemScores
from tests.test_cli import Command, copied, papers_url, pgembed, url  # noqa: F401 - fixtures


@pytest.fixture
def judged_url(papers_url: str) -> str:  # noqa: F811
    """``papers`` with test queries of two domains, and an expert that turns a query around."""
    expert = LinearExpert(-2 * np.eye(32, dtype=np.float32), np.eye(32, dtype=np.float32))
    with connect(papers_url) as connection:
        for domain, first in (("even", 2), ("odd", 1)):
            add_judgments(
                connection,
                "papers",
                [
                    Judgment(f"number {n}", str(n), split="test", domain=domain)
                    for n in range(first, 30, 2)
                ],
            )
        register_expert(connection, registered_encoder(connection, "tiny"), "backwards", expert)
    return papers_url


def test_systems_are_measured_against_base(pgembed: Command, judged_url: str) -> None:  # noqa: F811
    """Each expert and both ways of routing, by domain; the macro is what single searches give."""
    found = pgembed("evaluate", "papers", "--json", url=judged_url).json
    systems = {system["mode"]: system for system in found["systems"]}
    assert list(systems) == ["base", "backwards", "hard", "soft"]
    assert systems["base"]["queries"] == {"even": 14, "odd": 15}
    assert systems["base"]["gain_over_base"] is None
    assert systems["backwards"]["gain_over_base"]["high"] < 0
    with connect(judged_url) as connection:
        scores = [
            [
                ndcg_at_k(
                    [
                        int(hit.key == str(n))
                        for hit in search(connection, "papers", f"number {n}", mode="base")
                    ],
                    [1],
                )
                for n in range(first, 30, 2)
            ]
            for first in (2, 1)
        ]
    assert systems["base"]["macro"] == pytest.approx(np.mean([np.mean(each) for each in scores]))


def test_the_table_names_queries_and_gains(pgembed: Command, judged_url: str) -> None:  # noqa: F811
    """Chosen modes only, after base."""
    answer = pgembed("evaluate", "papers", "--mode", "backwards", url=judged_url)
    assert answer.status == 0
    assert "expert backwards" in answer.out
    assert "routed" not in answer.out
    assert "Queries: even 14, odd 15." in answer.out
    assert "oracle" not in answer.out


def test_what_cannot_be_measured_is_said(pgembed: Command, judged_url: str) -> None:  # noqa: F811
    """A split without queries, one that does not exist, an unknown mode or collection."""
    for arguments, said in (
        (["papers", "--split", "dev"], "no judged queries of split 'dev'"),
        (["papers", "--split", "exam"], "train, dev, test"),
        (["papers", "--mode", "nobody"], "nobody"),
        (["papers", "--metric", "map"], "ndcg@10, recall@100, mrr@10, success@1"),
        (["nope"], "nope"),
    ):
        answer = pgembed("evaluate", *arguments, url=judged_url)
        assert answer.status == 1
        assert said in answer.err


def test_every_figure_is_in_the_json(pgembed: Command, judged_url: str) -> None:  # noqa: F811
    """All metrics, gains with corrected p, who answers, and what is chosen to compare by."""
    found = pgembed("evaluate", "papers", "--metric", "mrr@10", "--json", url=judged_url).json
    assert (found["split"], found["metric"]) == ("test", "mrr@10")
    assert "trec_eval" in found["measured_by"]
    base, backwards, hard, _ = found["systems"]
    assert set(base["metrics"]) == {"ndcg@10", "recall@100", "mrr@10", "success@1"}
    assert base["macro"] == base["metrics"]["mrr@10"]["macro"]
    assert set(backwards["gain_over_base"]) == {"mean", "low", "high", "p", "p_holm", "significant"}
    assert backwards["gain_over_base"]["significant"] is True
    assert hard["arms"] == {"even": {"base": 1.0}, "odd": {"base": 1.0}}
    # Without dev queries nothing can be chosen; the instance oracle looks at test itself.
    assert found["oracles"]["dataset"] is None
    assert found["oracles"]["instance"]["macro"] >= base["macro"]
    assert found["oracles"]["seeds"] == {}


def test_oracles_are_explained(pgembed: Command, judged_url: str) -> None:  # noqa: F811
    """What was chosen on dev, and that luck has no control here."""
    with connect(judged_url) as connection:
        made = [Judgment(f"number {n}", str(n), 1, "dev", "odd") for n in range(31, 60, 2)]
        add_judgments(connection, "papers", made)
    answer = pgembed("evaluate", "papers", url=judged_url)
    for said in (
        "dataset oracle", "instance oracle", "routed (soft) is +0.0000 from the dataset oracle",
        "takes base for even: no dev queries", "has no control",
    ):  # fmt: skip
        assert said in answer.out, said
    assert "base on dev" not in answer.out


def test_a_page_is_written(
    pgembed: Command,  # noqa: F811
    judged_url: str,
    tmp_path: Path,
) -> None:
    """Beside the table; a folder that is missing is found before anything is measured."""
    page = tmp_path / "page.html"
    answer = pgembed("evaluate", "papers", "--html", str(page), url=judged_url)
    assert answer.status == 0
    assert "The page is" in answer.out
    assert page.read_text(encoding="utf-8").count("<svg") == 5
    answer = pgembed("evaluate", "papers", "--html", str(tmp_path / "no" / "x"), url=judged_url)
    assert answer.status == 1
    assert "no such folder" in answer.err
    assert "Encode" not in answer.err


def test_many_domains_stand_in_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """A terminal is only so wide; control characters of names do not reach it."""
    scores = {f"domain\x1b{n}": np.full(20, n / 10) for n in range(9)}
    systems = [SystemScores("base", scores), SystemScores("soft", scores)]
    print_systems(systems, "test")
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert re.search(r"domain\ufffd8\W+0\.8000\W+0\.8000", said)
    assert re.search(r"routed \(soft\)\W+0\.4000\W+0\.4000\W+\+0\.0000", said)

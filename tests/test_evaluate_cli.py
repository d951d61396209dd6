"""The command ``pgembed evaluate``."""

from __future__ import annotations

import numpy as np
import pytest

from pgembed.database import connect
from pgembed.experts import register_expert
from pgembed.judgments import add_judgments
from pgembed.linear_expert import LinearExpert
from pgembed.metrics import ndcg_at_k
from pgembed.model import Judgment
from pgembed.registry import registered_encoder
from pgembed.searching import search
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


def test_what_cannot_be_measured_is_said(pgembed: Command, judged_url: str) -> None:  # noqa: F811
    """A split without queries, one that does not exist, an unknown mode or collection."""
    for arguments, said in (
        (["papers", "--split", "dev"], "no judged queries of split 'dev'"),
        (["papers", "--split", "exam"], "train, dev, test"),
        (["papers", "--mode", "nobody"], "nobody"),
        (["nope"], "nope"),
    ):
        answer = pgembed("evaluate", *arguments, url=judged_url)
        assert answer.status == 1
        assert said in answer.err

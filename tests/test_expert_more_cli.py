"""The commands ``pgembed expert merge``, ``describe`` and ``recommend``."""

from __future__ import annotations

import numpy as np
import pytest

from pgembed.database import Connection, connect
from pgembed.judgments import add_judgments, read_judged
from pgembed.linear_expert import LinearExpert
from pgembed.model import Judgment
from tests.test_cli import Command, copied, papers_url, pgembed, url  # noqa: F401 - fixtures
from tests.test_merging import register


@pytest.fixture
def merge_url(papers_url: str) -> str:  # noqa: F811
    """``papers`` with dev queries of two domains and an expert for each."""
    with connect(papers_url) as connection:
        for domain, first in (("even", 2), ("odd", 1)):
            made = [
                Judgment(f"number {n}", str(n), split="dev", domain=domain)
                for n in range(first, 30, 2)
            ]
            add_judgments(connection, "papers", made)
        expert = answering(connection)
        register(connection, even=expert, odd=expert)
    return papers_url


def answering(connection: Connection) -> LinearExpert:
    """An expert that maps the judged queries of ``papers`` to their answers, by least squares."""
    judged = read_judged(connection, "papers")
    queries = np.concatenate([each.vectors for each in judged.queries.values()])
    answers = [next(iter(row)) for each in judged.queries.values() for row in each.relevant]
    rows = [int(np.flatnonzero(judged.corpus.documents == answer)[0]) for answer in answers]
    return LinearExpert(np.linalg.pinv(queries), 10 * judged.corpus.vectors[rows])


def test_the_command_tells_and_stores(pgembed: Command, merge_url: str) -> None:  # noqa: F811
    """The method, the weights and the verdict; the same as json."""
    words = ("expert", "merge", "both", "even", "odd", "--collection", "papers")
    answer = pgembed(*words, url=merge_url)
    assert answer.status == 0, answer.err
    assert "Expert both is active (soup of even 0.50, odd 0.50; 0.0% of the energy" in answer.out
    found = pgembed(*words, "--method", "ties", "--rank", "2", "--json", url=merge_url)
    assert found.json["metrics"]["method"] == "ties"
    assert found.json["metrics"]["rank"] == 2
    assert "even" in pgembed("expert", "list", url=merge_url).out


def test_the_command_refuses_with_a_remedy(pgembed: Command, merge_url: str) -> None:  # noqa: F811
    """An expert that does not exist, one alone, or an unknown method."""
    for names, status, said in (
        (["even", "nope"], 1, "even, odd"),
        (["even"], 1, "two or more"),
        (["even", "odd", "--method", "mean"], 2, "soup"),
    ):
        words = ("expert", "merge", "both", *names, "--collection", "papers")
        answer = pgembed(*words, url=merge_url)
        assert answer.status == status
        assert said in answer.err


def test_an_expert_is_recommended_once_it_is_described(pgembed: Command, merge_url: str) -> None:  # noqa: F811
    """Undescribed ones are named with the remedy; then there is a ranking, also as json."""
    with connect(merge_url) as connection:
        made = [Judgment(f"paper no. {n}", str(n), domain="even") for n in range(1, 40)]
        add_judgments(connection, "papers", made)
    first = pgembed("expert", "recommend", "--collection", "papers", url=merge_url)
    assert "Not described: even, odd." in first.out
    assert "No expert was trained on such a table" in first.out
    said = pgembed("expert", "describe", "even", "--collection", "papers", url=merge_url)
    assert said.status == 0, said.err
    assert "Expert even is described by side query and document." in said.out
    told = pgembed(
        "expert", "recommend", "--collection", "papers", "--side", "document", url=merge_url
    )
    assert told.status == 0, told.err
    assert "even" in told.out
    assert "Not described: odd." in told.out
    found = pgembed("expert", "recommend", "--collection", "papers", "--json", url=merge_url).json
    assert found["fits"][0]["expert"] == "even"
    assert found["undescribed"] == ["odd"]


def test_what_cannot_be_described_is_said(pgembed: Command, merge_url: str) -> None:  # noqa: F811
    """An unknown expert, a domain without training queries, too few vectors to compare."""
    for words, said in (
        (("describe", "nope"), "even, odd"),
        (("describe", "odd"), "fewer than 10"),
        (("recommend", "--sample", "2"), "at least 10"),
    ):
        answer = pgembed("expert", *words, "--collection", "papers", url=merge_url)
        assert answer.status == 1
        assert said in answer.err

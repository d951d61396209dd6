"""Scores of systems, oracles, figures and the page; searches are tested in test_training."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgembed import measuring
from pgembed.arm_router import ArmRouter
from pgembed.errors import InputError
from pgembed.evaluation import Evaluation, evaluate, evaluate_all
from pgembed.evaluation_figures import figures, remarks
from pgembed.evaluation_page import check_libraries, evaluation_page
from pgembed.evaluation_plots import Points, label, map_plot
from pgembed.experts import register_expert
from pgembed.heads import Pilot, PilotHead
from pgembed.judgments import JudgedCollection, JudgedQueries, add_judgments, read_judged
from pgembed.linear_expert import LinearExpert, unit
from pgembed.measuring import METRICS, measure, measure_by_trec_eval, measure_here
from pgembed.metrics import Corpus
from pgembed.model import Judgment
from pgembed.registry import registered_encoder
from pgembed.router import Router
from pgembed.routing import load_router
from pgembed.system_scores import (
    SystemScores,
    dataset_oracle,
    gains_over_first,
    instance_oracle,
    recovery,
    seed_families,
)

HOSTILE = """</svg><script>alert("x")</script>&'\x00"$_^{\\frac"""


def system(name: str, scores: Mapping[str, list[float]], **others: Any) -> SystemScores:
    """Scores of a system; the other metrics are half of nDCG."""
    by_domain = {domain: np.asarray(each, dtype=np.float64) for domain, each in scores.items()}
    rest = {
        metric: {domain: each / 2 for domain, each in by_domain.items()} for metric in METRICS[1:]
    }
    return SystemScores(name, by_domain, rest, **others)


# Metrics.

rankings = st.lists(st.integers(-5, 12), max_size=12, unique=True)
relevants = st.dictionaries(st.integers(0, 12), st.integers(1, 3), min_size=1, max_size=8)


@given(st.lists(st.tuples(rankings, relevants), min_size=1, max_size=4))
def test_our_figures_are_those_of_trec_eval(
    cases: list[tuple[list[int], dict[int, int]]],
) -> None:
    """Every metric to 1e-6, results beyond the judgments and empty ones included."""
    ranked, judged = zip(*cases, strict=True)
    ours, theirs = measure_here(ranked, judged), measure_by_trec_eval(ranked, judged)
    assert list(ours) == list(theirs) == list(METRICS)
    for metric in METRICS:
        np.testing.assert_allclose(ours[metric], theirs[metric], atol=1e-6)


def test_metrics_look_as_deep_as_their_names_say() -> None:
    """A relevant document on rank 11 and on rank 101."""
    for found in (measure_here, measure_by_trec_eval):
        late = found([[*range(100, 110), 1, *range(200, 289), 2]], [{1: 1, 2: 1}])
        assert {name: float(values[0]) for name, values in late.items()} == {
            "ndcg@10": 0, "recall@100": 0.5, "mrr@10": 0, "success@1": 0,
        }  # fmt: skip


def test_trec_eval_computes_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where it is missing, and not with grades that it would reserve memory for."""
    monkeypatch.setattr(measuring, "measure_by_trec_eval", lambda *_: "trec_eval")
    assert measure([[1]], [{1: 1}]) == "trec_eval"
    assert measuring.measured_by().startswith("trec_eval (pytrec-eval-terrier")
    assert measure([[2, 1]], [{1: 2**31 - 1}])["mrr@10"] == [0.5]
    monkeypatch.setattr(measuring, "trec_eval_version", lambda: None)
    assert measure([[1]], [{1: 1}])["ndcg@10"] == [1.0]
    assert measuring.measured_by() == "pgembed.metrics"


# Scores.


def test_macro_and_micro_are_means_over_domains_and_queries() -> None:
    """Of each metric."""
    scores = system("s", {"a": [1.0], "b": [0.0, 0.0, 0.5]})
    assert scores.macro == pytest.approx((1 + 0.5 / 3) / 2)
    assert scores.micro_of("ndcg@10") == pytest.approx(1.5 / 4)
    assert scores.macro_of("mrr@10") == pytest.approx(scores.macro / 2)
    with pytest.raises(InputError, match="no metric 'map'"):
        scores.macro_of("map")
    with pytest.raises(InputError, match="was not measured"):
        SystemScores("old", scores.by_domain).macro_of("mrr@10")


def test_gains_are_corrected_for_their_number() -> None:
    """One that holds alone may not hold among others; a clear one does."""
    random = np.random.default_rng(0)
    base = system("base", {"a": [0.5] * 60, "b": [0.5] * 60})
    others = [
        system(name, {d: list(0.5 + random.normal(gain, 0.1, 60)) for d in "ab"})
        for name, gain in (("clear", 0.1), ("weak", 0.02), ("none", 0.0))
    ]
    gains = gains_over_first([base, *others])
    assert list(gains) == ["clear", "weak", "none"]
    assert gains["clear"].significant
    assert gains["weak"].p < gains["weak"].p_holm
    assert not gains["none"].significant
    assert gains_over_first([base]) == {}
    with pytest.raises(InputError, match="different domains"):
        gains_over_first([base, system("x", {"a": [0.0]})])


def test_the_dataset_oracle_chooses_on_dev() -> None:
    """Not on what is reported, and base where nothing can be chosen by."""
    dev = [system("base", {"a": [0.5], "b": [0.5]}), system("x", {"a": [0.9], "b": [0.5]})]
    test = [
        system("base", {"a": [0.8, 0.8], "b": [0.1], "c": [0.3]}),
        system("x", {"a": [0.2, 0.4], "b": [0.9], "c": [1.0]}),
    ]
    oracle = dataset_oracle(dev, test)
    assert {d: list(s) for d, s in oracle.by_domain.items()} == {
        "a": [0.2, 0.4], "b": [0.1], "c": [0.3],
    }  # fmt: skip
    assert oracle.arms == {"a": {"x": 1.0}, "b": {"base": 1.0}, "c": {"base": 1.0}}
    assert list(oracle.scores("recall@100")["a"]) == [0.1, 0.2]


def test_the_instance_oracle_takes_the_best_of_each_query() -> None:
    """Of those that take part; the first of equal ones; the other metrics are the chosen arm's."""
    systems = [
        system("base", {"a": [0.5, 0.1, 0.4]}),
        system("x", {"a": [0.5, 0.3, 0.2]}),
        system("y", {"a": [1.0, 1.0, 1.0]}),
    ]
    oracle = instance_oracle(systems, ["base", "x"])
    assert list(oracle.by_domain["a"]) == [0.5, 0.3, 0.4]
    assert list(oracle.scores("mrr@10")["a"]) == [0.25, 0.15, 0.2]
    assert oracle.arms["a"] == pytest.approx({"base": 2 / 3, "x": 1 / 3})
    assert instance_oracle(systems).macro == 1
    with pytest.raises(InputError, match="'z' is none of base, x, y"):
        instance_oracle(systems, ["z"])


def test_versions_of_an_expert_are_families() -> None:
    """Two or more of ``NAME@number``."""
    names = ["a@1", "a@2", "b@1", "c", "d@x", "d@y", "a@b@1", "a@b@12"]
    assert seed_families(names) == {"a": ["a@1", "a@2"], "a@b": ["a@b@1", "a@b@12"]}


def test_recovery_is_a_share_of_what_can_be_gained() -> None:
    """Of nothing there is none."""
    assert recovery(1.0, 2.0) == 0.5
    assert recovery(-1.0, 2.0) == -0.5
    assert recovery(1.0, 0.0) is recovery(1.0, -1.0) is None


# Figures and the page, of made-up scores.


def made_up(domain: str = "claims") -> Evaluation:
    """Two domains, an expert in two versions, both ways of routing, all oracles."""
    random = np.random.default_rng(1)
    scores = {
        name: {d: list(np.clip(random.normal(mean, 0.2, 30), 0, 1)) for d in (domain, "other")}
        for name, mean in (("base", 0.4), ("x@1", 0.5), ("x@2", 0.5), ("hard", 0.5), ("soft", 0.6))
    }
    arms = {domain: {"base": 0.25, "x@1": 0.75}, "other": {"base": 1.0}}
    systems = [system(name, each, arms=arms) for name, each in scores.items()]
    return Evaluation(
        "test",
        systems,
        "trec_eval",
        dataset_oracle(systems[:2], systems[:2]),
        instance_oracle(systems, ["base", "x@1"]),
        {"x": instance_oracle(systems, ["x@1", "x@2"], name="seed oracle of x")},
        ["other"],
    )


def collection(*domains: str) -> JudgedCollection:
    """A judged collection of a few vectors."""
    vectors = unit(np.random.default_rng(2).normal(size=(30, 8))).astype(np.float32)
    queries = JudgedQueries(tuple("q" * 30), vectors, ({0: 1},) * 30)
    corpus = Corpus(vectors, np.arange(30))
    keys = tuple(str(n) for n in range(30))
    return JudgedCollection(
        "papers", "tiny", corpus, keys, {}, {(domain, "test"): queries for domain in domains}
    )


def router(*names: str) -> Router:
    """A router with a pilot for each name."""
    pilots = [Pilot(name, name, 9, np.eye(8, dtype=np.float32)[n]) for n, name in enumerate(names)]
    return Router(ArmRouter(PilotHead(pilots)), {})


def test_figures_hold_what_the_scores_say() -> None:
    """Means, gains, oracles, regret and recovery, all in plain values."""
    evaluation = made_up()
    found = figures(evaluation, "mrr@10")
    base, *_, soft = found["systems"]
    assert found["metric"] == "mrr@10"
    assert base["gain_over_base"] is base["gains_by_domain"] is None
    assert soft["macro"] == soft["metrics"]["mrr@10"]["macro"]
    assert soft["metrics"]["ndcg@10"]["micro"] == evaluation.systems[-1].micro_of("ndcg@10")
    gain = soft["macro"] - base["macro"]
    assert soft["gain_over_base"]["mean"] == pytest.approx(gain)
    assert soft["gain_over_base"]["p_holm"] >= soft["gain_over_base"]["p"]
    assert np.mean([g["mean"] for g in soft["gains_by_domain"].values()]) == pytest.approx(gain)
    oracle = found["oracles"]["dataset"]["macro"]
    assert soft["regret"] == pytest.approx(oracle - soft["macro"])
    assert np.mean(list(soft["regret_by_domain"].values())) == pytest.approx(soft["regret"])
    assert soft["dataset_oracle_recovery"] == pytest.approx(gain / (oracle - base["macro"]))
    instance, seeds = found["oracles"]["instance"]["macro"], found["oracles"]["seeds"]["x"]["macro"]
    room = instance - seeds
    expected = gain / room if room > 0 else None
    assert soft["instance_oracle_recovery"] == pytest.approx(expected)
    assert found["oracles"]["without_dev"] == ["other"]


def test_remarks_say_what_is_not_there() -> None:
    """The control of the instance oracle, and dev queries."""
    said = " ".join(remarks(made_up()))
    assert "routed (soft) is +" in said
    assert "base for other: no dev queries" in said
    assert "no control" not in said
    assert "no control" in " ".join(remarks(replace(made_up(), seed_oracles={})))


class Tags(HTMLParser):
    """Collects tags, attributes and ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


def test_the_page_has_every_part_and_needs_nothing_else() -> None:
    """Tables, five plots, nothing that is fetched; no id twice."""
    page = evaluation_page(made_up(), [collection("claims", "other")], router("x@1", "x@2"))
    assert page.count("<svg") == 5
    for part in (
        "expert x@1", "routed (soft)", "dataset oracle", "instance oracle", "seed oracle of x",
        "Each system on each domain", "Gain by domain", "Who answers what: routed (hard)",
        "principal components", "success@1", "nDCG@10 on split test",
    ):  # fmt: skip
        assert part in page, part
    tags = Tags(page)
    assert not tags.tags & {"script", "link", "iframe", "object", "image"}
    names = [value for name, value in tags.attributes if name == "id"]
    assert len(set(names)) == len(names)
    targets = [value for name, value in tags.attributes if name in ("src", "href", "xlink:href")]
    assert all(value.startswith("#") and value[1:] in names for value in targets)
    clips = re.findall(r"url\(#([^)]+)\)", page)
    assert set(clips) <= set(names)


def test_names_are_text_whatever_they_hold() -> None:
    """Domains, experts and collections come from tables that others write."""
    evaluation = made_up(HOSTILE)
    evaluation = replace(
        evaluation, systems=[*evaluation.systems, replace(evaluation.systems[1], name=HOSTILE)]
    )
    judged = [replace(collection(HOSTILE, "_\u4e2d\u6587\U0001f600\n\x1b[31m"), name=HOSTILE)]
    page = evaluation_page(evaluation, judged, router(HOSTILE, "--><b>"))
    assert not Tags(page).tags & {"script", "b"}
    assert "&lt;script&gt;" in page
    assert page.count("</svg>") == page.count("<svg") == 5


def test_a_page_of_base_alone_shows_the_map() -> None:
    """No gains, no pilots."""
    evaluation = Evaluation("test", made_up().systems[:1], "trec_eval")
    page = evaluation_page(evaluation, [collection("claims")], router(), metric="recall@100")
    assert page.count("<svg") == 1
    assert "recall@100 on split test" in page
    assert "pilot embeddings" not in page


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that brings it."""
    for name in ("jinja2", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(InputError, match=r"pgembed-router\[plot\]"):
            check_libraries()


def test_the_map_shows_the_plane_of_most_variance() -> None:
    """Points in a plane are shown whole; vectors of one dimension still have a map."""
    flat = np.zeros((400, 5), dtype=np.float32)
    flat[:, :2] = np.random.default_rng(0).normal(size=(400, 2))
    svg, share = map_plot([Points("d", flat)], [])
    assert share == pytest.approx(1)
    assert svg.startswith("<svg")
    assert map_plot([Points("d", flat[:, :1])], [Points("p", flat[:1, :1])])[1] == pytest.approx(1)
    assert map_plot([Points("d", flat[:1])], [])[0].startswith("<svg")


def test_labels_are_short_and_plain() -> None:
    """One line, no control characters."""
    assert label("a\nb\x00") == "a\ufffdb\ufffd"
    assert len(label("x" * 100)) == 28


# In the database.


@pytest.fixture
def judged_papers(papers: Any) -> Any:
    """``papers`` with dev and test queries, and an expert in two versions that turns queries."""
    for split, first in (("dev", 1), ("test", 21)):
        made = [
            Judgment(f"number {n}", str(n), 1, split, ("even", "odd")[n % 2])
            for n in range(first, first + 20)
        ]
        add_judgments(papers, "papers", made)
    expert = LinearExpert(-2 * np.eye(32, dtype=np.float32), np.eye(32, dtype=np.float32))
    for name in ("back@1", "back@2"):
        register_expert(papers, registered_encoder(papers, "tiny"), name, expert)
    return papers


def test_everything_is_measured_at_once(judged_papers: Any) -> None:
    """All arms and both ways of routing on test; the arms on dev for the dataset oracle."""
    judged = [read_judged(judged_papers, "papers")]
    routed = load_router(judged_papers, "tiny")
    told: list[tuple[str, int, int]] = []
    found = evaluate_all(judged_papers, judged, routed, on_progress=lambda *each: told.append(each))
    assert [each.name for each in found.systems] == ["base", "back@1", "back@2", "hard", "soft"]
    assert found.dataset_oracle is not None
    assert found.instance_oracle is not None
    assert found.dataset_oracle.arms == {"even": {"base": 1.0}, "odd": {"base": 1.0}}
    assert found.instance_oracle.macro >= found.systems[0].macro
    # Versions of one seed are equal, so their oracle is each of them.
    assert found.seed_oracles["back"].macro == found.systems[1].macro
    assert "back@2" not in found.instance_oracle.arms["even"]
    assert found.systems[-1].arms == {"even": {"base": 1.0}, "odd": {"base": 1.0}}
    assert ("base on dev", 20, 20) in told
    assert ("soft", 20, 20) in told
    on_dev = evaluate_all(judged_papers, judged, routed, split="dev")
    assert on_dev.dataset_oracle is not None
    alone = evaluate(judged_papers, judged, routed, "base", split="dev")
    assert on_dev.systems[0].macro == alone.macro


def test_chosen_modes_have_no_oracles(judged_papers: Any) -> None:
    """They would need all arms."""
    judged = [read_judged(judged_papers, "papers")]
    found = evaluate_all(judged_papers, judged, load_router(judged_papers, "tiny"), ["back@1"])
    assert [each.name for each in found.systems] == ["base", "back@1"]
    assert found.dataset_oracle is found.instance_oracle is None
    assert figures(found)["systems"][1]["regret"] is None


def test_metrics_are_those_of_the_users_searches(judged_papers: Any) -> None:
    """Recall looks at 100 rows, the others at ten; checked against single searches."""
    import pgembed

    judged = [read_judged(judged_papers, "papers")]
    scores = evaluate(judged_papers, judged, load_router(judged_papers, "tiny"), "base")
    places = []
    for text in judged[0].split("odd", "test").texts:
        hits = pgembed.search(judged_papers, "papers", text, k=100, mode="base")
        places.append([hit.key for hit in hits].index(text.split()[1]))
    ranks = np.asarray(places)
    assert list(scores.scores("recall@100")["odd"]) == [1.0] * 10
    assert list(scores.scores("success@1")["odd"]) == list((ranks == 0).astype(float))
    expected = np.where(ranks < 10, 1 / (ranks + 1), 0)
    np.testing.assert_allclose(scores.scores("mrr@10")["odd"], expected, atol=1e-6)

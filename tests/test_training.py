"""Judgments, training, routing, evaluation: what is learned helps, or is refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from pgvector.psycopg import register_vector
from psycopg.rows import dict_row

from pgembed.collections import create_collection
from pgembed.database import Connection, connect
from pgembed.descent import LinearSettings
from pgembed.encoders import open_encoder
from pgembed.errors import (
    FingerprintError,
    GateError,
    InputError,
    NotFoundError,
    TrainingError,
)
from pgembed.evaluation import evaluate
from pgembed.experts import list_experts, load_experts, retire_expert
from pgembed.judgments import (
    DEV_SHARE,
    JudgedCollection,
    JudgedQueries,
    add_judgments,
    read_judged,
    seeded_share,
)
from pgembed.metrics import ndcg_of
from pgembed.model import Judgment
from pgembed.registry import open_registered, register_encoder
from pgembed.router_building import build_router
from pgembed.router_fitting import BuiltRouter
from pgembed.routing import load_router
from pgembed.searching import search
from pgembed.syncing import sync
from pgembed.trained import TrainingStep
from pgembed.training import TrainedExpert, train_expert
from pgembed.training_kinds import LoraTrainer, settings_of
from tests.databases import copied_database
from tests.encoders.tiny import make_tiny_encoder

DOCUMENTS = 150
WORDS = tuple(a + "a" + b for a in "bdfgk" for b in "lmnrt")
"""Of the documents, and of the queries of domain ``plain``; each is one token."""
CIPHER = dict(zip(WORDS, (a + "o" + b for a in "psvwz" for b in "lmnrt"), strict=True))
"""The language of the queries of domain ``cipher``, word by word."""
SETTINGS = LinearSettings(steps=240, evaluate_every=40, rank=32)


@dataclass(frozen=True, slots=True, repr=False)
class World:
    """A collection with three judged domains, and what was learned from them."""

    url: str
    judged: JudgedCollection
    trained: Mapping[str, TrainedExpert]
    touched: tuple[Any, ...]
    """What the stored documents were before anything was learned."""


@pytest.fixture(scope="module")
def world(database_url: str, template: str) -> Iterator[World]:
    """Trains three experts, once for this module."""
    with copied_database(database_url, template, "pgembed_test_training") as url:
        with connect(url) as connection:
            make_documents(connection)
            add_judgments(connection, "documents", judgments())
            touched = documents_now(connection)
            judged = read_judged(connection, "documents")
            trained = {
                name: train_expert(connection, name, [judged], domain=name, settings=SETTINGS)
                for name in ("cipher", "noise")
            }
        yield World(url, judged, trained, touched)


@pytest.fixture
def connection(world: World) -> Iterator[Connection]:
    """A connection to it whose work is undone after the test."""
    with psycopg.connect(world.url) as opened:
        yield opened
        opened.rollback()


def make_documents(connection: Connection) -> None:
    """Each document is a different handful of words."""
    random = np.random.default_rng(0)
    connection.execute("create table documents (id int primary key, body text)")
    texts = [" ".join(random.choice(WORDS, 5, replace=False)) for _ in range(DOCUMENTS)]
    with connection.cursor() as cursor:
        cursor.executemany("insert into documents values (%s, %s)", list(enumerate(texts)))
    create_collection(connection, "documents", source="documents", content=["body"], encoder="tiny")
    sync(connection, "documents")


def judgments() -> list[Judgment]:
    """Queries in the cipher, in plain words, and in words that say nothing about the answer."""
    random = np.random.default_rng(1)
    source = np.random.default_rng(0)
    bodies = [list(source.choice(WORDS, 5, replace=False)) for _ in range(DOCUMENTS)]
    made = {}
    for domain, counts in {
        "cipher": {"train": 320, "dev": 60, "test": 60},
        "plain": {"train": 120, "dev": 40, "test": 40},
        "noise": {"train": 100, "dev": 40, "test": 40},
    }.items():
        for split, count in counts.items():
            for _ in range(count):
                number = int(random.integers(DOCUMENTS))
                words = list(random.permutation(bodies[number])[:4])
                if domain == "cipher":
                    words = [CIPHER[word] for word in words]
                elif domain == "noise":
                    words = [f"x{a}q" for a in random.choice(list("aeiou"), 4)]
                    words.append(f"{random.integers(10**6)}")
                query = " ".join(words)
                made[query] = Judgment(query, str(number), 1, split, domain)
    return list(made.values())


def documents_now(connection: Connection) -> tuple[Any, ...]:
    """Versions and times of every stored chunk and source row."""
    row = connection.execute(
        "select"
        " (select array_agg(xmin::text || encoded_at order by id) from pgembed_data.documents),"
        " (select array_agg(xmin::text order by id) from documents),"
        " (select count(*) from pgembed.stale)"
    ).fetchone()
    assert row is not None
    return tuple(row)


def ndcg(connection: Connection, judged: JudgedCollection, mode: str) -> dict[str, float]:
    """Mean nDCG@10 on test by domain, searched in the database."""
    router = load_router(connection, "tiny")
    scores = evaluate(connection, [judged], router, mode)
    return {domain: float(each.mean()) for domain, each in scores.by_domain.items()}


def plain_notes(connection: Connection, name: str = "notes", rows: int = 40) -> None:
    """A collection of its own, in the caller's transaction, embedded without a sync."""
    connection.execute(f"create table {name} (id int primary key, body text)")
    connection.execute(
        f"insert into {name} select n, 'note ' || n from generate_series(1, %s) as n", (rows,)
    )
    create_collection(connection, name, source=name, content=["body"], encoder="tiny")
    encoder = open_registered(connection, "tiny")
    vectors = encoder.encode_document([f"note {n}" for n in range(1, rows + 1)])
    with connection.cursor() as cursor:
        cursor.executemany(
            f"insert into pgembed_data.{name}"
            " (id, chunk_no, content, span, content_hash, embedding)"
            " values (%s, 0, 'x', '[0,1)', '', pgembed.as_vector(%s::real[])::halfvec)",
            [(number, vector.tolist()) for number, vector in enumerate(vectors, start=1)],
        )


# Training.


def test_an_expert_of_another_language_helps_on_queries_that_it_never_saw(
    world: World, connection: Connection
) -> None:
    """It passes the gate on dev, and test queries find their documents."""
    trained = world.trained["cipher"]
    assert trained.expert.state == "active"
    assert trained.decision.accepted
    assert trained.decision.interval.low > 0
    router = load_router(connection, "tiny")
    base = evaluate(connection, [world.judged], router, "base")
    expert = evaluate(connection, [world.judged], router, "cipher")
    assert base.by_domain["cipher"].mean() < 0.2
    assert expert.by_domain["cipher"].mean() > 0.6
    assert replace_domain(expert, "cipher").gain_over(replace_domain(base, "cipher")).low > 0


def replace_domain(scores: Any, domain: str) -> Any:
    """The scores of one domain alone."""
    return replace(scores, by_domain={domain: scores.by_domain[domain]})


def test_what_cannot_be_learned_is_rejected_and_kept_out_of_routing(
    world: World, connection: Connection
) -> None:
    """Its row says why; no query is ever routed to it, even when it is asked for by name."""
    trained = world.trained["noise"]
    assert trained.expert.state == "rejected"
    stored = {each.name: each for each in list_experts(connection, "tiny")}["noise"]
    assert stored.state == "rejected"
    assert stored.metrics["gate"] == {
        "accepted": False,
        "reason": trained.decision.reason,
        "general_change": None,
    }
    assert "noise" not in load_experts(connection, "tiny")
    built = build_router(connection, [world.judged])
    assert "noise" not in {pilot.expert for pilot in built.pilots}
    with pytest.raises(NotFoundError):
        search(connection, "documents", "bal", mode="noise")


def test_the_row_of_an_expert_tells_how_it_came_about(world: World, connection: Connection) -> None:
    """Domain, collection, settings, the figures of dev, and the curve of training."""
    row = connection.execute(
        "select domain, trained_on, fingerprint, metrics from pgembed.expert where name = 'cipher'"
    ).fetchone()
    assert row is not None
    domain, trained_on, fingerprint, metrics = row
    assert (domain, trained_on) == ("cipher", "documents")
    assert fingerprint == open_registered(connection, "tiny").spec.fingerprint
    figures = metrics["dev_ndcg_at_10"]["cipher"]
    assert figures["gain"] == pytest.approx(figures["expert"] - figures["base"], abs=2e-6)
    assert figures["queries"] == len(world.judged.split("cipher", "dev"))
    assert metrics["settings"]["steps"] == SETTINGS.steps
    assert metrics["curve"][0][0] == 0


def test_documents_are_not_touched(world: World) -> None:
    """Neither their vectors nor their rows nor the queue, whatever is trained."""
    with connect(world.url) as connection:
        assert documents_now(connection) == world.touched


def test_the_same_seed_gives_the_same_expert(world: World, connection: Connection) -> None:
    """Byte by byte, and another seed another one."""
    few = replace(SETTINGS, steps=30, evaluate_every=10)
    made = [
        train_expert(
            connection, "again", [world.judged], domain="cipher", settings=replace(few, seed=seed)
        ).training.expert.sha256
        for seed in (3, 3, 4)
    ]
    assert made[0] == made[1] != made[2]


def test_nothing_is_committed(world: World, connection: Connection) -> None:
    """Training and building are undone with the caller's transaction."""
    before = {each.name for each in list_experts(connection)}
    few = replace(SETTINGS, steps=10, evaluate_every=10)
    train_expert(connection, "gone", [world.judged], domain="plain", settings=few)
    build_router(connection, [world.judged])
    connection.rollback()
    assert {each.name for each in list_experts(connection)} == before
    assert connection.execute("select count(*) from pgembed.router").fetchone() == (0,)


def test_a_general_expert_learns_from_every_domain(world: World, connection: Connection) -> None:
    """It belongs to none of them, and its row has the figures of each."""
    general = train_expert(connection, "general", [world.judged], settings=SETTINGS)
    assert general.expert.domain is None
    assert set(general.expert.metrics["dev_ndcg_at_10"]) == {"cipher", "plain", "noise"}
    if general.decision.accepted:
        reached = ndcg(connection, world.judged, "general")
        assert reached["cipher"] > ndcg(connection, world.judged, "base")["cipher"]


def test_steps_are_reported(world: World, connection: Connection) -> None:
    """One call a step, in order."""
    steps: list[int] = []
    few = replace(SETTINGS, steps=12, evaluate_every=5)
    train_expert(
        connection,
        "few",
        [world.judged],
        domain="plain",
        settings=few,
        on_step=lambda step: steps.append(step.step),
    )
    assert steps == list(range(1, len(steps) + 1))


def test_the_run_record_tells_what_can_be_checked(world: World, connection: Connection) -> None:
    """What was learned from, what got worse, negatives, losses, versions."""
    metrics = world.trained["cipher"].expert.metrics
    assert set(metrics["elsewhere"]) == {"plain", "noise"}
    figures = metrics["dev_ndcg_at_10"] | metrics["elsewhere"]
    assert metrics["worse"] == {d: f["gain"] for d, f in figures.items() if f["gain"] < 0}
    assert "cipher" not in metrics["worse"]
    assert [step for step, _ in metrics["losses"]] == [step for step, _ in metrics["curve"][1:]]
    run = metrics["run"]
    assert run["sources"] == {"documents": "judgments"}
    assert run["chunks"] == {"documents": DOCUMENTS}
    train = metrics["dev_ndcg_at_10"]["cipher"]["train_queries"]
    assert 0 < run["negatives"]["cipher"]["masked"] < run["negatives"]["cipher"]["mined"]
    assert run["negatives"]["cipher"]["mined"] <= 30 * train
    assert run["versions"]["numpy"] == np.__version__


def test_equal_data_have_equal_hashes(world: World, connection: Connection) -> None:
    """Another grade, domain or vector gives another."""
    few = replace(SETTINGS, steps=1)

    def hashed(judged: JudgedCollection, domain: str = "cipher") -> str:
        made = train_expert(connection, "x", [judged], domain=domain, settings=few)
        return str(made.expert.metrics["run"]["data"])

    judged = world.judged
    assert hashed(judged) == world.trained["cipher"].expert.metrics["run"]["data"]
    assert hashed(judged, "plain") != hashed(judged)
    train = judged.split("cipher", "train")
    graded = replace(train, relevant=tuple(dict.fromkeys(row, 2) for row in train.relevant))
    other = {**judged.queries, ("cipher", "train"): graded}
    assert hashed(replace(judged, queries=other)) != hashed(judged)
    corpus = replace(judged.corpus, vectors=judged.corpus.vectors[::-1])
    assert hashed(replace(judged, corpus=corpus)) != hashed(judged)


def relabelled(judged: JudgedCollection, domains: Mapping[str, str]) -> JudgedCollection:
    """The collection with some of its domains under other names."""
    return replace(
        judged,
        queries={(domains.get(d, d), split): q for (d, split), q in judged.queries.items()},
    )


def test_an_expert_that_harms_queries_in_general_is_refused(
    world: World, connection: Connection
) -> None:
    """Queries without a domain lose more than is allowed; what is allowed can be changed."""
    judged = relabelled(world.judged, {"plain": ""})
    lost = world.trained["cipher"].expert.metrics["elsewhere"]["plain"]["gain"]
    assert lost < -0.01
    refused = train_expert(connection, "x", [judged], domain="cipher", settings=SETTINGS)
    assert refused.expert.state == "rejected"
    assert f"general queries change by {lost:+.3f}, beyond the -0.010 allowed" in (
        refused.decision.reason
    )
    gate = refused.expert.metrics["gate"]
    assert gate["general_change"] == pytest.approx(lost, abs=1e-6)
    assert refused.expert.metrics["general"]["documents"]["gain"] == pytest.approx(lost, abs=1e-6)
    allowed = train_expert(
        connection, "x", [judged], domain="cipher", settings=SETTINGS, allowed_loss=1.0
    )
    assert allowed.expert.state == "active"


def test_a_named_collection_stands_for_queries_in_general(
    world: World, connection: Connection
) -> None:
    """Its dev queries are measured, whatever their domain; one without any is an error."""
    few = replace(SETTINGS, steps=1)
    plain_notes(connection)
    made = [Judgment(f"note {n}", str(n), 1, "dev", "d") for n in range(1, 9)]
    add_judgments(connection, "notes", made)
    notes = read_judged(connection, "notes")
    trained = train_expert(
        connection, "x", [world.judged], domain="cipher", settings=few, general=[notes]
    )
    assert set(trained.expert.metrics["general"]) == {"d"}
    assert "d" not in trained.expert.metrics["elsewhere"]
    test = relabelled(notes, {})
    test = replace(test, queries={(d, "test"): q for (d, _), q in test.queries.items()})
    with pytest.raises(TrainingError, match="'notes' stands for queries in general"):
        train_expert(connection, "x", [world.judged], settings=few, general=[test])


def test_queries_without_a_domain_that_are_learned_alone_are_no_check(
    world: World, connection: Connection
) -> None:
    """A collection without domains: the gate asks a gain of these queries already."""
    judged = replace(
        world.judged,
        queries={("", s): q for (d, s), q in world.judged.queries.items() if d == "cipher"},
    )
    trained = train_expert(connection, "x", [judged], settings=replace(SETTINGS, steps=1))
    assert trained.expert.metrics["gate"]["general_change"] is None
    assert set(trained.expert.metrics["dev_ndcg_at_10"]) == {"documents"}


def test_a_stopped_training_goes_on_from_its_file(
    world: World, connection: Connection, tmp_path: Path
) -> None:
    """And the file is gone at the end; ``fresh`` does not look at it."""
    few = replace(SETTINGS, steps=40, evaluate_every=10)

    def train(stop: int = 0, **given: Any) -> tuple[list[int], TrainedExpert | None]:
        steps: list[int] = []

        def on_step(step: TrainingStep) -> None:
            steps.append(step.step)
            if step.step == stop:
                raise KeyboardInterrupt

        try:
            return steps, train_expert(
                connection,
                "x",
                [world.judged],
                domain="plain",
                settings=few,
                on_step=on_step,
                **given,
            )
        except KeyboardInterrupt:
            return steps, None

    _, whole = train()
    assert whole is not None
    train(25, checkpoints=tmp_path)
    (file,) = tmp_path.iterdir()
    steps, resumed = train(checkpoints=tmp_path)
    assert steps[0] == 21
    assert resumed is not None
    assert resumed.training.expert.sha256 == whole.training.expert.sha256
    assert not list(tmp_path.iterdir())
    train(25, checkpoints=tmp_path)
    file.write_bytes(b"damaged")
    with pytest.raises(InputError, match="--fresh"):
        train(checkpoints=tmp_path)
    assert train(checkpoints=tmp_path, fresh=True)[0][0] == 1


@pytest.mark.parametrize("failing", ["scores_of", "register_expert"])
def test_a_finished_training_outlives_what_fails_after_it(
    world: World,
    connection: Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
) -> None:
    """The same call then scores and registers what was trained, without another step."""
    few = replace(SETTINGS, steps=20, evaluate_every=10)
    steps: list[int] = []

    def train() -> TrainedExpert:
        return train_expert(
            connection,
            "x",
            [world.judged],
            domain="plain",
            settings=few,
            checkpoints=tmp_path,
            on_step=lambda step: steps.append(step.step),
        )

    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(f"pgembed.training.{failing}", fail)
        with pytest.raises(MemoryError):
            train()
    assert len(steps) == 20
    again = train()
    assert len(steps) == 20
    assert not list(tmp_path.iterdir())
    undisturbed = train()
    assert len(steps) == 40
    assert again.training.expert.sha256 == undisturbed.training.expert.sha256


def test_a_folder_that_cannot_be_written_is_named(
    world: World, connection: Connection, tmp_path: Path
) -> None:
    """With the variable that chooses another."""
    (tmp_path / "file").write_text("")
    few = replace(SETTINGS, steps=20, evaluate_every=10)
    with pytest.raises(InputError, match="PGEMBED_CACHE"):
        train_expert(
            connection,
            "x",
            [world.judged],
            domain="plain",
            settings=few,
            checkpoints=tmp_path / "file" / "trainings",
        )


# Kinds.


def test_unknown_kinds_and_settings_of_another_kind_are_refused(
    world: World, connection: Connection
) -> None:
    """Before anything is trained."""
    with pytest.raises(InputError, match="'mlp' is no kind"):
        train_expert(connection, "x", [world.judged], kind="mlp")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="with LinearSettings, not with dict"):
        train_expert(connection, "x", [world.judged], settings={})
    with pytest.raises(InputError, match="'depth' is no setting"):
        settings_of("linear", depth=3)
    assert settings_of("linear", rank=3, steps=None) == LinearSettings(rank=3)


def test_lora_without_torch_says_how_to_get_it(
    world: World, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linear experts need none."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(TrainingError, match=r"torch\nHint: pip install .*train"):
        train_expert(connection, "x", [world.judged], kind="lora")
    train_expert(connection, "x", [world.judged], settings=replace(SETTINGS, steps=1))


def test_lora_experts_are_measured_by_a_pass_of_the_encoder() -> None:
    """In a bank, where the expert stays only as long as it is measured."""
    pytest.importorskip("torch")
    made = settings_of("lora", rank=4, negatives="corpus", seed=7)
    assert (made.rank, made.negatives, made.seed) == (4, "corpus", 7)
    calls: list[Any] = []

    class Bank:
        def add(self, name: str, expert: object) -> None:
            calls.append(("add", name, expert))

        def remove(self, name: str) -> None:
            calls.append(("remove", name))

        def start(self, texts: Sequence[str]) -> Sequence[str]:
            return texts

        def finish(self, states: Any, rows: Sequence[int], names: Sequence[str]) -> Any:
            return [f"{names[row]}: {states[row]}" for row in rows]

    queries = JudgedQueries(("a", "b"), np.zeros((2, 3), np.float32), ({0: 1}, {1: 1}))
    trainer = LoraTrainer(made, Bank())  # type: ignore[arg-type]
    assert list(trainer.apply("expert", queries)) == ["candidate: a", "candidate: b"]
    assert calls == [("add", "candidate", "expert"), ("remove", "candidate")]


@pytest.mark.parametrize("name", ["", "base", "soft", "hard"])
def test_a_name_that_cannot_be_is_refused_before_training(
    world: World, connection: Connection, name: str
) -> None:
    """Not after minutes of it."""
    steps: list[int] = []
    with pytest.raises(InputError):
        train_expert(connection, name, [world.judged], on_step=lambda step: steps.append(step.step))
    assert steps == []


def test_a_domain_without_queries_is_named(world: World, connection: Connection) -> None:
    """As is the collection that was looked in."""
    with pytest.raises(TrainingError, match="'nope' in 'documents'"):
        train_expert(connection, "x", [world.judged], domain="nope")


@pytest.mark.parametrize("count", [1, 2, 5])
def test_too_few_queries_are_refused_or_rejected(connection: Connection, count: int) -> None:
    """A handful of judgments never makes an active expert."""
    plain_notes(connection)
    add_judgments(connection, "notes", [Judgment(f"query {n}", str(n + 1)) for n in range(count)])
    judged = [read_judged(connection, "notes")]
    few = replace(SETTINGS, steps=10, evaluate_every=10)
    with suppress(TrainingError):
        train_expert(connection, "few", judged, settings=few)
    assert "few" not in load_experts(connection, "tiny")


def test_an_emptied_query_cache_costs_negatives_alone(world: World, connection: Connection) -> None:
    """The cache may be emptied at any time, also between reading and training."""
    connection.execute("delete from pgembed.query_cache")
    few = replace(SETTINGS, steps=10, evaluate_every=10)
    train_expert(connection, "x", [world.judged], domain="cipher", settings=few)


def test_experts_live_in_one_space(world: World, connection: Connection, tmp_path: Path) -> None:
    """Collections of two encoders cannot train one expert or build one router."""
    other = replace(world.judged, name="other", encoder="other")
    for work in (train_expert, build_router):
        arguments: Sequence[Any] = ["x"] if work is train_expert else []
        with pytest.raises(TrainingError, match="in the space of one"):
            work(connection, *arguments, [world.judged, other])


# Routing.


@pytest.fixture
def built(world: World, connection: Connection) -> BuiltRouter:
    """A router as the paper builds it, in the test's own transaction."""
    return build_router(connection, [world.judged])


@pytest.mark.parametrize("labels", ["instance", "domain"])
def test_routing_improves_on_base(world: World, connection: Connection, labels: Any) -> None:
    """Soft and hard, by either way of labelling, on queries that chose nothing."""
    assert build_router(connection, [world.judged], labels=labels).pilots
    base, hard, soft = (ndcg(connection, world.judged, mode) for mode in ("base", "hard", "soft"))
    for routed in (hard, soft):
        assert np.mean(list(routed.values())) > np.mean(list(base.values())) + 0.1
        assert routed["cipher"] > base["cipher"] + 0.3
        assert routed["plain"] > base["plain"] - 0.1


def test_pilots_stand_for_training_queries(
    world: World, connection: Connection, built: BuiltRouter
) -> None:
    """Each is a unit centroid of at most a domain's queries, owned by an active expert or base."""
    sizes = {domain: len(world.judged.split(domain, "train")) for domain in world.judged.domains}
    for pilot in built.pilots:
        assert pilot.expert in {"base", "cipher"}
        assert 0 < pilot.n <= sizes[pilot.domain]
        assert np.linalg.norm(pilot.centroid) == pytest.approx(1, abs=1e-5)
    count = connection.execute("select count(*), sum(n) from pgembed.pilot").fetchone()
    assert count == (len(built.pilots), sum(pilot.n for pilot in built.pilots))


def test_building_again_replaces(world: World, connection: Connection, built: BuiltRouter) -> None:
    """One router an encoder: the version counts, and no pilot of the old one stays."""
    again = build_router(connection, [world.judged], labels="domain")
    assert again.version == built.version + 1
    loaded = load_router(connection, "tiny").policy
    assert [(p.expert, p.domain, p.n) for p in loaded.head.pilots] == [
        (p.expert, p.domain, p.n) for p in again.pilots
    ]
    assert loaded.parameters.temperature == again.fit.parameters.temperature


def test_a_retired_expert_gets_no_query_any_more(
    world: World, connection: Connection, built: BuiltRouter
) -> None:
    """Its pilots and its standing share go to the others, in Python as in SQL."""
    connection.execute(
        'update pgembed.router set parameters = parameters || \'{"standing": {"cipher": 0.4}}\''
    )
    retire_expert(connection, "tiny", "cipher")
    router = load_router(connection, "tiny")
    z = open_registered(connection, "tiny").encode_query(["pol som"])[0]
    for mode in ("soft", "hard"):
        weights = dict(router.route(z, mode).weights)
        rows = connection.execute(
            "select expert, weight from pgembed.route('tiny', pgembed.as_vector(%s::real[]), %s)",
            (z.tolist(), mode),
        ).fetchall()
        assert weights == pytest.approx(dict(rows))
        assert "cipher" not in weights
        assert sum(weights.values()) == pytest.approx(1)


def test_a_router_that_does_not_help_is_refused(
    world: World, connection: Connection, built: BuiltRouter
) -> None:
    """What was installed before still routes."""
    retire_expert(connection, "tiny", "cipher")
    with pytest.raises(GateError, match="the router is refused"):
        build_router(connection, [world.judged])
    row = connection.execute("select version from pgembed.router").fetchone()
    assert row == (built.version,)
    assert built.gain.low > 0


def test_a_router_needs_train_and_dev(connection: Connection) -> None:
    """Test queries alone do not build one."""
    plain_notes(connection)
    add_judgments(connection, "notes", [Judgment("query", "1", split="test")])
    with pytest.raises(TrainingError, match="splits train and dev"):
        build_router(connection, [read_judged(connection, "notes")])


# Evaluation.


@pytest.mark.parametrize("mode", ["base", "cipher", "soft", "hard"])
def test_evaluation_through_sql_is_exact_ranking(
    world: World, connection: Connection, built: BuiltRouter, mode: str
) -> None:
    """Where the plan is exact, nDCG@10 by searches is that of a matrix product."""
    router = load_router(connection, "tiny")
    scores = evaluate(connection, [world.judged], router, mode, split="dev")
    for domain in world.judged.domains:
        queries = world.judged.split(domain, "dev")
        exact = ndcg_of(
            router.query_vectors(queries.vectors, mode), world.judged.corpus, queries.relevant
        )
        assert np.allclose(scores.by_domain[domain], exact, atol=1e-9)


def test_evaluation_reports_progress(world: World, connection: Connection) -> None:
    """As many as there are queries."""
    done: list[int] = []
    evaluate(
        connection, [world.judged], load_router(connection, "tiny"), "base", on_progress=done.append
    )
    assert sum(done) == sum(len(world.judged.split(d, "test")) for d in world.judged.domains)


def test_rows_that_came_since_are_not_relevant(world: World, connection: Connection) -> None:
    """A live table may grow between reading the judgments and searching."""
    connection.execute("insert into documents values (9999, 'pol')")
    connection.execute(
        "insert into pgembed_data.documents (id, chunk_no, content, span, content_hash, embedding)"
        " select 9999, 0, content, span, '', embedding from pgembed_data.documents limit 1"
    )
    assert ndcg(connection, world.judged, "base")["plain"] > 0


def test_a_split_without_queries_is_an_error(world: World, connection: Connection) -> None:
    """Rather than a mean of nothing."""
    with pytest.raises(InputError, match="'tset'"):
        evaluate(connection, [world.judged], load_router(connection, "tiny"), "base", split="tset")


def test_domains_of_one_name_are_measured_apart(world: World, connection: Connection) -> None:
    """Each under its collection's name."""
    for name in ("first", "second"):
        plain_notes(connection, name)
        made = [Judgment(f"note {n}", str(n), split="test", domain="d") for n in range(1, 4)]
        add_judgments(connection, name, made)
    judged = [read_judged(connection, name) for name in ("first", "second")]
    scores = evaluate(connection, judged, load_router(connection, "tiny"), "base")
    assert set(scores.by_domain) == {"first/d", "second/d"}


# Judgments.


def test_a_judgment_is_replaced_by_the_next_of_its_query_and_key(connection: Connection) -> None:
    """In one call or in two: there is one grade, split and domain."""
    plain_notes(connection)
    first = Judgment("query", "1", 1, "train", "a")
    assert add_judgments(connection, "notes", [first, Judgment("query", "2")]) == 2
    later = [replace(first, grade=2), replace(first, grade=3, split="test", domain="b")]
    assert add_judgments(connection, "notes", later) == 1
    rows = connection.execute(
        "select query, key, grade, split, domain from pgembed.judgment"
        " where collection = 'notes' order by key"
    ).fetchall()
    assert rows == [("query", "1", 3, "test", "b"), ("query", "2", 1, "train", "")]


def test_no_judgments_are_fine(connection: Connection) -> None:
    """An empty list, or a generator that ends at once."""
    plain_notes(connection)
    assert add_judgments(connection, "notes", []) == 0
    assert add_judgments(connection, "notes", iter(())) == 0


@pytest.mark.parametrize(
    "judgment",
    [
        Judgment("", "1"),
        Judgment(" \n", "1"),
        Judgment("query", "1", split="validation"),
        Judgment("nul \0", "1"),
        Judgment("query", "\0"),
        Judgment("lone \ud800", "1"),
        Judgment("query", "1", grade=2**31),
        Judgment("query", "1", grade=0.5),  # type: ignore[arg-type]
    ],
)
def test_a_judgment_that_cannot_be_used_is_refused(
    connection: Connection, judgment: Judgment
) -> None:
    """When it is given, not when it is trained on; nothing of the call is kept."""
    plain_notes(connection)
    with pytest.raises(InputError), connection.transaction():
        add_judgments(connection, "notes", [Judgment("fine", "1"), judgment])
    count = "select count(*) from pgembed.judgment where collection = 'notes'"
    assert connection.execute(count).fetchone() == (0,)


def test_judgments_of_an_unknown_collection_are_refused(connection: Connection) -> None:
    """The hint lists those that exist."""
    for work in (
        lambda: add_judgments(connection, "nope", []),
        lambda: read_judged(connection, "nope"),
    ):
        with pytest.raises(NotFoundError, match="'nope'"), connection.transaction():
            work()


def test_judgments_of_rows_that_do_not_exist_are_ignored(connection: Connection) -> None:
    """As are grades of 0 and less; a query left with nothing is none."""
    plain_notes(connection)
    made = [
        Judgment("mixed", "1"),
        Judgment("mixed", "no such key"),
        Judgment("gone", "4711"),
        Judgment("irrelevant", "2", grade=0),
        Judgment("harmful", "3", grade=-1),
    ]
    add_judgments(connection, "notes", made)
    judged = read_judged(connection, "notes")
    texts = [text for queries in judged.queries.values() for text in queries.texts]
    assert texts == ["mixed"]


def test_without_judgments_or_vectors_reading_says_what_to_do(connection: Connection) -> None:
    """Sync first, then judge."""
    plain_notes(connection)
    with pytest.raises(TrainingError, match=r"no judgments.*\n?.*pgembed.judgment"):
        read_judged(connection, "notes")
    connection.execute("delete from pgembed_data.notes")
    with pytest.raises(TrainingError, match="pgembed sync"):
        read_judged(connection, "notes")


def test_a_domain_without_dev_gets_a_share_of_train(connection: Connection) -> None:
    """The same queries each time, in no other split, and only where no dev was given."""
    plain_notes(connection)
    cut = [Judgment(f"query {n}", str(n % 40 + 1), domain="cut") for n in range(400)]
    given = [Judgment(f"given {n}", str(n + 1), domain="given") for n in range(30)]
    add_judgments(connection, "notes", [*cut, *given, Judgment("own", "1", 1, "dev", "given")])
    judged, again = (read_judged(connection, "notes") for _ in range(2))
    train, dev = (set(judged.split("cut", split).texts) for split in ("train", "dev"))
    assert train | dev == {judgment.query for judgment in cut}
    assert not train & dev
    assert dev == {text for text in train | dev if seeded_share(text) < DEV_SHARE}
    assert 0.15 < len(dev) / 400 < 0.25
    assert again.split("cut", "dev").texts == judged.split("cut", "dev").texts
    assert judged.split("given", "dev").texts == ("own",)
    assert len(judged.split("given", "train")) == 30


def test_a_query_of_several_splits_counts_in_the_last(connection: Connection) -> None:
    """With that split's grades alone: what is judged for test is never learned."""
    plain_notes(connection)
    made = [Judgment("both", "1", 1, "train"), Judgment("both", "2", 3, "test", "elsewhere")]
    add_judgments(connection, "notes", [*made, Judgment("other", "3", split="dev")])
    judged = read_judged(connection, "notes")
    numbers = {key: number for number, key in enumerate(judged.keys)}
    assert judged.split("", "train").texts == ()
    assert judged.split("elsewhere", "test").relevant == ({numbers["2"]: 3},)


def test_queries_are_encoded_once(connection: Connection) -> None:
    """The cache serves the second reading, with the same vectors, and new queries are added."""
    plain_notes(connection)
    encoder = open_registered(connection, "tiny")
    add_judgments(connection, "notes", [Judgment(f"query {n}", str(n + 1)) for n in range(9)])
    before = encoder.counted.texts
    first = read_judged(connection, "notes")
    assert encoder.counted.texts == before + 9
    add_judgments(connection, "notes", [Judgment("another", "20")])
    second = read_judged(connection, "notes")
    assert encoder.counted.texts == before + 10
    for domain, split in first.queries:
        rows = [
            second.split(domain, split).texts.index(t) for t in first.split(domain, split).texts
        ]
        assert np.array_equal(
            second.split(domain, split).vectors[rows], first.split(domain, split).vectors
        )


def test_clicks_can_be_learned_from_instead(connection: Connection) -> None:
    """What ``click_judgments`` says, in the place of the table of judgments."""
    plain_notes(connection)
    add_judgments(connection, "notes", [Judgment("judged", "1")])
    connection.execute(
        "insert into pgembed.click (collection, search, query, key, rank, propensity, domain, clicked)"
        " select 'notes', n, 'clicked ' || n, n::text, 1, 1, 'd', n % 3 > 0"
        " from generate_series(1, 9) as n"
    )
    clicked = read_judged(connection, "notes", source="clicks")
    assert clicked.origin == "clicks"
    assert clicked.domains == ("d",)
    found = {
        text: {clicked.keys[document] for document in relevant}
        for queries in clicked.queries.values()
        for text, relevant in zip(queries.texts, queries.relevant, strict=True)
    }
    assert found == {f"clicked {n}": {str(n)} for n in (1, 2, 4, 5, 7, 8)}
    judged = read_judged(connection, "notes")
    assert [texts.texts for texts in judged.queries.values()] == [("judged",)]


def test_clicks_do_not_teach_what_is_measured(connection: Connection) -> None:
    """Queries judged for test are left out, those judged for dev are not trained on."""
    plain_notes(connection)
    connection.execute(
        "insert into pgembed.click (collection, search, query, key, rank, propensity, clicked)"
        " select 'notes', n, 'clicked ' || n, n::text, 1, 1, true from generate_series(1, 40) as n"
    )
    before = read_judged(connection, "notes", source="clicks")
    train, dev = (before.split("", split).texts for split in ("train", "dev"))
    measured = {"test": (train[0], dev[0]), "dev": (train[1], dev[1]), "train": (train[2], dev[2])}
    add_judgments(
        connection,
        "notes",
        [Judgment(text, "41", 1, split) for split, texts in measured.items() for text in texts],
    )
    after = read_judged(connection, "notes", source="clicks")
    assert set(after.split("", "train").texts) == set(train) - {train[0], train[1]}
    assert set(after.split("", "dev").texts) == set(dev) - {dev[0]}


def test_no_clicks_and_unknown_sources_are_said(connection: Connection) -> None:
    """With what to do."""
    plain_notes(connection)
    with pytest.raises(TrainingError, match=r"no clicks of rows.*\n.*log_click"):
        read_judged(connection, "notes", source="clicks")
    with pytest.raises(InputError, match="'guesses' is none of judgments, clicks"):
        read_judged(connection, "notes", source="guesses")  # type: ignore[arg-type]


def test_another_model_cannot_fill_the_cache(world: World, tmp_path: Path) -> None:
    """Its vectors would mislead every later training."""
    stranger = open_encoder(str(make_tiny_encoder(tmp_path / "stranger", seed=1)))
    with psycopg.connect(world.url) as connection, pytest.raises(FingerprintError):
        read_judged(connection, "documents", encoder=stranger)


def test_the_callers_own_settings_of_a_connection_do_not_matter(world: World) -> None:
    """Rows as dictionaries and pgvector's adapters change nothing that is learned."""
    few = replace(SETTINGS, steps=10, evaluate_every=10)
    with psycopg.connect(world.url, row_factory=dict_row) as mine:
        register_vector(mine)
        judged = read_judged(mine, "documents")
        assert np.array_equal(judged.corpus.vectors, world.judged.corpus.vectors)
        assert judged.split("cipher", "dev").texts == world.judged.split("cipher", "dev").texts
        train_expert(mine, "x", [judged], domain="cipher", settings=few)
        built = build_router(mine, [judged])
        assert load_router(mine, "tiny").policy.names
        assert evaluate(mine, [judged], load_router(mine, "tiny"), "soft").macro > 0
        assert built.version == 1
        mine.rollback()


def test_documents_of_many_chunks_are_judged_as_documents(
    database_url: str, template: str, tiny_directory: Path
) -> None:
    """With composite keys and several chunks a row: the best chunk counts."""
    with (
        copied_database(database_url, template, "pgembed_test_chunks") as url,
        connect(url) as connection,
    ):
        register_encoder(connection, str(tiny_directory), name="short", max_tokens=16)
        connection.execute(
            "create table books (shelf text, n int, body text, primary key (shelf, n))"
        )
        connection.execute(
            "insert into books select 's' || n % 2, n, repeat('word' || n || ' tells. ', 30)"
            " from generate_series(1, 12) as n"
        )
        create_collection(connection, "books", source="books", content=["body"], encoder="short")
        sync(connection, "books")
        add_judgments(
            connection,
            "books",
            [Judgment(f"word{n}", f'["s{n % 2}", "{n}"]', split="test") for n in range(1, 13)],
        )
        judged = read_judged(connection, "books")
        assert judged.corpus.size == 12
        assert len(judged.corpus.vectors) > 24
        scores = evaluate(connection, [judged], load_router(connection, "short"), "base")
        queries = judged.split("", "test")
        exact = ndcg_of(queries.vectors, judged.corpus, queries.relevant)
        assert np.allclose(scores.by_domain["books"], exact, atol=1e-9)
        assert scores.macro > 0.5
